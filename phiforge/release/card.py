"""Write the card of a release: a README as the Hub shows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import files_under
from phiforge.decoding import decode
from phiforge.receipts.coverage import device_states
from phiforge.receipts.receipt import Receipt
from phiforge.release.templates import fill_in

_TEMPLATE = "card.md.j2"
_LIBRARIES = {
    "openvino": "openvino",
    "onnx-genai": "onnxruntime-genai",
    "npu-blob": "openvino",
    "npu-library": "intel-npu-acceleration-library",
}
_METRICS = ("top1_agreement", "mean_kl", "max_kl", "perplexity_ratio")


def render(
    build: Mapping[str, Any],
    receipts: Sequence[Mapping[str, Any]],
    verdict: Mapping[str, Any],
    card_facts: Mapping[str, Any],
    payload: Path,
) -> str:
    """Render Markdown with YAML front matter (Hugging Face Hub model card metadata).

    Raises:
        DecodeError: a receipt is not of its type.
    """
    sizes = {name.as_posix(): (payload / name).stat().st_size for name in files_under(payload)}
    return fill_in(
        _TEMPLATE,
        {"size": readable_size, "spread": readable_spread},
        build=build,
        receipts=receipts,
        devices=device_states(decode(Receipt, receipt) for receipt in receipts),
        verdict=verdict,
        card={"notice": "", **card_facts, "metrics": _METRICS, "libraries": _LIBRARIES},
        sizes=sizes,
        total=sum(sizes.values()),
    )


def readable_spread(spread: Mapping[str, float] | None) -> str:
    """Write the median and the 90th percentile of a measurement.

    >>> readable_spread({"min": 6.35, "p50": 8, "p90": 135.502, "max": 135.502})
    '8 / 136'
    """
    if spread is None:
        return "not told"
    return " / ".join(
        f"{value:.0f}" if value >= 10 else f"{value:.2g}"
        for value in (spread["p50"], spread["p90"])
    )


def readable_size(size: int) -> str:
    """Write bytes in the unit that leaves one to three digits before the point.

    >>> readable_size(19_400_000)
    '19.4 MB'
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
