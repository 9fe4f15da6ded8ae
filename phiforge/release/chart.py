"""Draw what was measured: size against fidelity with its frontier, and speed by device row."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from phiforge.release.ranking import Build, frontier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What matplotlib draws with, and the page's own variable in its place, which is light or dark.
_INK, _FAINT, _LINE, _PAPER = "#1c2430", "#66707c", "#c9d0d8", "#fefefe"
_STYLES = {
    "openvino": ("o", "#1f6fb2"),
    "onnx-genai": ("s", "#b3541e"),
    "npu-blob": ("D", "#2c7d5b"),
    "npu-library": ("^", "#7a4fb0"),
}
_OTHER = ("v", "#66707d")
_VARIABLES = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _LINE: "var(--line)",
    _PAPER: "var(--paper)",
    **{colour: f"var(--{name})" for name, (_, colour) in _STYLES.items()},
}
# Any: matplotlib's stubs want a literal of each key.
_SETTINGS: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _LINE,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
}
_STEPS = 40
LEAST_KL = 1e-6
"""What is nearer to the reference is drawn here."""


def frontier_svg(builds: Sequence[Build], formats: Mapping[str, str]) -> str:
    """Return the chart as an SVG element that takes the page's colours and fonts.

    Args:
        builds: with figures on equal positions.
        formats: variant to its format.
    """
    import matplotlib
    from matplotlib.figure import Figure

    drawn = io.StringIO()
    # A page may hold several charts, and no two elements of one id.
    salt = "".join(one.variant for one in builds)
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": salt}):
        figure = Figure(figsize=(5.2, 3.7), layout="constrained", dpi=72)
        _draw(figure, builds, formats)
        nothing = {"Date": None, "Creator": None}
        figure.savefig(drawn, format="svg", transparent=True, metadata=nothing)
    text = drawn.getvalue()
    text = text[text.index("<svg") :]
    used = set(re.findall(r"#([\w-]+)", text))
    text = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    return text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)


def speed_png(rows: Mapping[str, tuple[float | None, float | None]], title: str) -> bytes:
    """Draw how fast a variant was on each row, as a PNG on white for a card.

    Args:
        rows: device row to milliseconds to the first token and tokens per second.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(7.5, 1.2 + 0.4 * len(rows)), layout="constrained", dpi=120)
        figure.suptitle(title, fontsize=10)
        panels = figure.subplots(1, 2, sharey=True)
        for place, label in enumerate(("first token, ms", "tokens per second")):
            values = [measured[place] or 0.0 for measured in rows.values()]
            bars = panels[place].barh(list(rows), values, color="#1f6fb2", height=0.6)
            panels[place].bar_label(bars, fmt="%.3g", padding=3, fontsize=9)
            panels[place].set_xlabel(label)
            panels[place].spines[["top", "right"]].set_visible(False)
            panels[place].margins(x=0.2)
        panels[0].invert_yaxis()
        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", metadata={"Software": None})
    return drawn.getvalue()


def _draw(figure: "Figure", builds: Sequence[Build], formats: Mapping[str, str]) -> None:
    axes = figure.add_subplot()
    unbeaten = frontier(builds)
    places = {one.variant: (one.size / 1e6, _height(one)) for one in builds}
    line = [places[name] for name in unbeaten]
    axes.plot(*zip(*line, strict=True), color=_FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    for format_ in sorted({formats[one.variant] for one in builds}):
        marker, colour = _STYLES.get(format_, _OTHER)
        points = [one for one in builds if formats[one.variant] == format_]
        for on_frontier in (False, True):
            at = [places[one.variant] for one in points if (one.variant in unbeaten) == on_frontier]
            if at:
                axes.scatter(
                    [width for width, _ in at],
                    [height for _, height in at],
                    s=58,
                    marker=marker,
                    facecolor=colour if on_frontier else _PAPER,
                    edgecolor=colour,
                    linewidth=1.6,
                    zorder=3,
                )
        axes.scatter([], [], s=42, marker=marker, color=colour, label=format_)
    axes.set_yscale("log")
    axes.set_xlabel("size of the payload, MB")
    axes.set_ylabel("mean KL divergence, nats (lower is better)")
    axes.margins(x=0.08, y=0.12)
    axes.set_xlim(left=0)
    axes.yaxis.set_major_formatter(_power)
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
    axes.tick_params(which="minor", length=0)
    figure.legend(
        loc="outside lower center", ncols=3, frameon=False, handletextpad=0.2, columnspacing=1.2
    )
    figure.draw_without_rendering()  # names need to know where the points are
    _name(axes, places, unbeaten)


def _height(one: Build) -> float:
    """A point's height; what is nearer than arithmetic can tell stands on the floor."""
    return max(one.mean_kl or 0.0, LEAST_KL)


def _name(axes: "Axes", places: Mapping[str, tuple[float, float]], names: Sequence[str]) -> None:
    """Write names beside their points, each where it covers nothing else."""
    points = axes.transData.transform(list(places.values()))
    line = axes.transData.transform([places[name] for name in names])
    between = [
        (at * one + (1 - at) * other)
        for one, other in pairwise(line)
        for at in (n / _STEPS for n in range(_STEPS))
    ]
    taken = [(x - 5, y - 5, x + 5, y + 5) for x, y in points]
    taken += [(x, y, x, y) for x, y in between]
    right = axes.bbox.x1
    for name in names:
        x, y = axes.transData.transform(places[name])
        length, chosen = 5.6 * len(name), (8, 5)
        for offset in _offsets():
            left = x + offset[0] if offset[0] > 0 else x + offset[0] - length
            box = (left, y + offset[1] - 2, left + length, y + offset[1] + 11)
            if left > axes.bbox.x0 and box[2] < right and not any(_meet(box, b) for b in taken):
                chosen = offset
                taken.append(box)
                break
        axes.annotate(
            name,
            places[name],
            xytext=chosen,
            textcoords="offset pixels",
            ha="left" if chosen[0] > 0 else "right",
            fontsize=9,
        )


def _offsets() -> list[tuple[int, int]]:
    """Places of a name around its point in pixels, the nearest first."""
    return [(x, y) for y in (4, -13, 18, -27, 32, -41, 46, -55) for x in (8, -8)]


def _meet(one: Sequence[float], other: Sequence[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _power(value: float, _: float | None = None) -> str:
    """Write a tick of the logarithmic axis.

    >>> _power(0.001), _power(1e-6)
    ('10⁻³', '≤ 10⁻⁶')
    """
    exponent = round(math.log10(value))
    text = "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"≤ {text}" if value <= LEAST_KL * 1.01 else text
