"""What the receipts of a variant must say for a channel; whether they are believed is not asked.

A **candidate** needs every receipt to be believed (`phiforge.release.scrutiny`), none ``failed``,
every stand-in ``passed``, and at least one row that really executed. Any signer will do: a key
made for the occasion shows that nothing was changed since. What **stable** needs more is in
`phiforge.release.promotion`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROMOTION = "promotion.dsse.json"
NOTHING_RAN = "no receipt passed: nothing executed this artifact"


def judge(build: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Reasons of policy against a candidate; empty when there is none. Nothing is verified."""
    if "blocked" in build:
        return (f"it was not built ({build['blocked']['reason']})",)
    against = []
    for receipt in receipts:
        row, verdict = receipt["device"], receipt["verdict"]
        if receipt["artifact_sha256"] != build["artifact_sha256"]:
            against.append(f"{row}: stale, it is about another artifact")
        elif verdict == "failed":
            against.append(f"{row}: failed ({receipt['reason']})")
        elif verdict == "blocked" and receipt["kind"] == "standin":
            against.append(f"{row}: stand-in is blocked ({receipt['reason']})")
    if not against and not any(receipt["verdict"] == "passed" for receipt in receipts):
        against.append(NOTHING_RAN)
    return tuple(against)


def missing_for_stable(receipts: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Device rows whose receipt did not pass, or was signed for the occasion only."""
    return tuple(
        receipt["device"]
        for receipt in receipts
        if receipt["kind"] == "device" and (receipt["verdict"] != "passed" or _occasional(receipt))
    )


def _occasional(receipt: Mapping[str, Any]) -> bool:
    return bool((receipt.get("signer") or {}).get("occasional", True))


def is_promoted(release: Path) -> bool:
    """Whether a promotion stands in a release folder; it is not verified."""
    return (release / "evidence" / PROMOTION).is_file()
