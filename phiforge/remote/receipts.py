"""A receipt that came from elsewhere: believed only if its signature and its digests are right."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.errors import PhiforgeError
from phiforge.receipts.receipt import check_receipt
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed
from phiforge.remote import RunnerError
from phiforge.trust import AttestationError
from phiforge.trust.keys import read_public

_DIGESTS = (
    "artifact_sha256",
    "reference_sha256",
    "golden_sha256",
    "acceptance_sha256",
    "validator_sha256",
)
_NOUNS = {
    "artifact_sha256": "artifact",
    "reference_sha256": "reference",
    "golden_sha256": "golden prompts",
    "acceptance_sha256": "gates",
    "validator_sha256": "validators",
}


def accept(
    receipt: bytes,
    envelope: bytes | None,
    *,
    key: Path | None,
    expects: Mapping[str, Any],
    into: Path,
    came: str,
) -> str:
    """Verify a receipt and its envelope and write them, byte for byte; return the verdict.

    Args:
        key: PEM file of the public key that must have signed; None: the one that the receipt
            names, which shows that nothing changed on the way, not who signed.
        expects: `phiforge.remote.kit.Kit.expects`.
        into: where the receipt goes; the envelope goes beside it.
        came: how it came, for messages.

    Raises:
        RunnerError: by name: ``stale-receipt`` (of another artifact or basis),
            ``other-receipt`` (of another row or job), ``malformed-receipt``, or what
            `phiforge.receipts.signed_receipt.read_signed` finds: ``unsigned``, ``edited-receipt``,
            ``edited-envelope``, ``unknown-signer``.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=into.parent) as name:
        path = Path(name) / into.name
        path.write_bytes(receipt)
        if envelope is not None:
            envelope_path(path).write_bytes(envelope)
        told = _verified(path, key, came)
        _compare(told, expects, came)
        envelope_path(path).replace(envelope_path(into))
        path.replace(into)
    return str(told["verdict"])


def _verified(path: Path, key: Path | None, came: str) -> dict[str, Any]:
    try:
        told = read_signed(path, None if key is None else [read_public(key)])
        check_receipt(path, told)
    except AttestationError as error:
        raise RunnerError(
            error.name,
            f"the receipt is refused: {_short(error, path)}",
            where=came,
            remedy=_REMEDIES.get(error.name, "run the check there again"),
        ) from None
    except PhiforgeError as error:
        raise RunnerError(
            "malformed-receipt", f"the receipt is refused: {_short(error, path)}", where=came
        ) from None
    if told["verdict"] == "blocked":
        raise RunnerError("unsigned", "a blocked receipt proves nothing", where=came)
    return told


_REMEDIES = {
    "unknown-signer": "let the device sign with the key that the row names (its "
    "PHIFORGE_RUNNER_KEY or ssh.runner_key), or name the device's own key in the row",
}


def _short(error: Exception, path: Path) -> str:
    """The message without the scratch folder."""
    return str(error).replace(f"{path.parent}/", "").split(". Remedy:")[0]


def _compare(told: Mapping[str, Any], expects: Mapping[str, Any], came: str) -> None:
    for field, expected in expects.items():
        if field not in _DIGESTS and told[field] != expected:
            raise RunnerError(
                "other-receipt",
                f"the receipt is of another job: its '{field}' differs",
                where=came,
                expected=expected,
                found=told[field],
            )
    for field in _DIGESTS:
        if told[field] != expects[field]:
            raise RunnerError(
                "stale-receipt",
                f"the receipt is stale, it is about other {_NOUNS[field]}",
                where=came,
                expected=expects[field],
                found=told[field],
            )
