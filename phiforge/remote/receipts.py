"""Accept a receipt from a device elsewhere, if its signature and its digests are right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.record import write_bytes
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import open_receipt
from phiforge.remote import RunnerError
from phiforge.trust import TrustError
from phiforge.trust.keys import PublicKey, read_public

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
    source: str,
) -> str:
    """Verify a receipt and its envelope and write them, byte for byte; return the verdict.

    Args:
        key: PEM file of the public key that must have signed; None: the one that the receipt
            names, which shows that nothing changed on the way, not who signed.
        expects: `phiforge.remote.kit.Kit.expects`.
        into: where the receipt goes; the envelope goes beside it.
        source: the host or the file that it is from, for messages.

    Raises:
        RunnerError: by name: ``stale-receipt`` (of another artifact or basis),
            ``other-receipt`` (of another row or job), or what
            `phiforge.receipts.signed_receipt.open_receipt` finds.
    """
    keys = None if key is None else [read_public(key)]
    accepted = open_expected(
        receipt, envelope, keys=keys, expects=expects, name=into.name, source=source
    )
    assert envelope is not None, "only a blocked receipt has none"
    write_bytes(envelope_path(into), envelope)
    write_bytes(into, receipt)
    return accepted.verdict


def open_expected(
    receipt: bytes,
    envelope: bytes | None,
    *,
    keys: Sequence[PublicKey] | None,
    expects: Mapping[str, Any],
    name: str,
    source: str,
) -> Receipt:
    """Return a receipt that ran, if one of ``keys`` signed it and it is what it must be.

    Args:
        keys: None: the key that the receipt names.
        name: of the receipt's file, which is the row's.

    Raises:
        RunnerError: see `accept`.
    """
    try:
        opened = open_receipt(receipt, envelope, name, keys)
    except TrustError as error:
        raise RunnerError(
            error.name,
            f"the receipt is refused: {error.what}",
            where=source,
            remedy=_REMEDIES.get(error.name, "run the check on the device again"),
        ) from None
    if opened.verdict == "blocked":
        raise RunnerError("unsigned-receipt", "a blocked receipt proves nothing", where=source)
    _compare(opened, expects, source)
    return opened


_REMEDIES = {
    "wrong-key": "let the device sign with the key that the row names (its "
    "PHIFORGE_RUNNER_KEY or ssh.runner_key), or name the device's own key in the row",
}


def _compare(receipt: Receipt, expects: Mapping[str, Any], source: str) -> None:
    for field, expected in expects.items():
        if field not in _DIGESTS and getattr(receipt, field) != expected:
            raise RunnerError(
                "other-receipt",
                f"the receipt is of another job: its '{field}' differs",
                where=source,
                expected=expected,
                found=getattr(receipt, field),
            )
    for field in _DIGESTS:
        if getattr(receipt, field) != expects[field]:
            raise RunnerError(
                "stale-receipt",
                f"the receipt is stale, it is about other {_NOUNS[field]}",
                where=source,
                expected=expects[field],
                found=getattr(receipt, field),
            )
