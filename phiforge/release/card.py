"""Write the card of a release: a README as the Hub shows it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import files_under
from phiforge.decoding import decode
from phiforge.receipts.coverage import device_states
from phiforge.receipts.receipt import Receipt
from phiforge.release.comparison import diverging
from phiforge.release.metadata import METRICS, metadata
from phiforge.release.templates import fill_in

CHART = "evidence/speed.png"
_TEMPLATE = "card.md.j2"


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
    answers = {
        one["device"]: diverging(one["golden"], payload)
        for one in receipts
        if one["verdict"] == "passed"
    }
    return fill_in(
        _TEMPLATE,
        {"size": readable_size, "spread": readable_spread},
        build=build,
        receipts=receipts,
        devices=device_states(decode(Receipt, receipt) for receipt in receipts),
        verdict=verdict,
        answers=answers,
        metadata=metadata(
            build, receipts, card_facts["languages"], card_facts["base_model"], answers
        ),
        card={"notice": "", **card_facts, "metrics": tuple(METRICS)},
        speeds=speeds(receipts),
        chart=CHART,
        sizes=sizes,
        total=sum(sizes.values()),
    )


def speeds(
    receipts: Sequence[Mapping[str, Any]],
) -> dict[str, tuple[float | None, float | None]]:
    """Return rows that passed, with how many prompts, to ms to the first token and tokens/s."""

    def median(spread: Mapping[str, float] | None) -> float | None:
        return spread["p50"] if spread else None

    return {
        f"{receipt['device']}, {measured['runs']} prompts": (
            median(measured["first_token_ms"]),
            median(measured["tokens_per_s"]),
        )
        for receipt in receipts
        if receipt["verdict"] == "passed" and (measured := receipt["performance"])
    }


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
