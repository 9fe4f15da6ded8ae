"""The comparison as a picture: time and memory per variant, official tools beside phiforge."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

_PANELS = (
    ("wall_s", "seconds", 1.0),
    ("peak_resident_mb", "GB, peak resident", 1e-3),
    ("peak_anonymous_mb", "GB, peak anonymous", 1e-3),
)
_COLOURS = {"official": "#9aa5b1", "phiforge": "#2f6f9f"}


def draw(result: dict[str, Any], into: Path) -> None:
    """Write an SVG whose bytes depend on ``result`` alone."""
    matplotlib.rcParams["svg.hashsalt"] = result["model"]
    names = [row["variant"] for row in result["variants"]]
    figure, axes = pyplot.subplots(1, len(_PANELS), figsize=(11, 3.2), sharey=True)
    for axis, (measure, label, scale) in zip(axes, _PANELS, strict=True):
        for place, side in enumerate(_COLOURS):
            values = [row[side][measure] * scale for row in result["variants"]]
            positions = [index + 0.38 * place for index in range(len(names))]
            bars = axis.barh(positions, values, 0.36, color=_COLOURS[side], label=side)
            axis.bar_label(bars, fmt="%.0f" if scale == 1.0 else "%.1f", padding=2, fontsize=7)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    axes[0].set_yticks([index + 0.19 for index in range(len(names))], names)
    axes[0].invert_yaxis()
    figure.legend(
        *axes[0].get_legend_handles_labels(),
        frameon=False,
        fontsize=8,
        loc="upper right",
        ncols=2,
    )
    figure.suptitle(
        f"{result['model']}, {result['machine']['cores']} cores, {result['date']}", fontsize=9
    )
    figure.tight_layout()
    figure.savefig(into, metadata={"Date": None})
    pyplot.close(figure)
