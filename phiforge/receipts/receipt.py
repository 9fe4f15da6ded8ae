"""The receipt of one variant on one device row (config/schemas/receipt.schema.json)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from phiforge.artifact.record import write_record
from phiforge.errors import PhiforgeError
from phiforge.receipts.gates import Metrics
from phiforge.receipts.receipt_files import envelope_path

SCHEMA = "phiforge/receipt/1"
_NAMED_IN_REASON = 4


class ReceiptError(PhiforgeError):
    """A receipt cannot be written as it is: a defect of phiforge."""


@dataclass(frozen=True)
class Failure:
    """Something that stands against the artifact; ``prompt`` names the prompt that showed it."""

    name: str
    what: str
    prompt: str | None = None


@dataclass(frozen=True)
class Note:
    """Something that is reported and not judged."""

    name: str
    what: str


@dataclass(frozen=True)
class CheckResult:
    """What a receipt says of a run.

    Attributes:
        failures: empty if the artifact passed.
        golden: one entry a golden prompt, in the receipt's form.
        metrics: None if a prompt could not be scored.
        validated_tokens: the longest sequence that ran.
    """

    failures: tuple[Failure, ...]
    golden: tuple[Mapping[str, Any], ...]
    metrics: Metrics | None
    validated_tokens: int = field(default=0)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Subject:
    """What a receipt is about: an artifact on a row.

    Attributes:
        artifact_sha256: digest of the payload's SHA256SUMS; None: there is none.
        runner: how the device was reached: local, ssh or courier.
    """

    model: str
    variant: str
    device: str
    kind: str
    standin_for: str | None
    format: str
    precision: str
    runtime: str
    settings: Mapping[str, Any]
    synthetic: bool
    artifact_sha256: str | None
    runner: str = "local"


@dataclass(frozen=True)
class Basis:
    """Digests of what an artifact was compared with, and by what code; None: it was not."""

    reference_sha256: str | None = None
    golden_sha256: str | None = None
    acceptance_sha256: str | None = None
    validator_sha256: str | None = None


def blocked(subject: Subject, reason: str, remedy: str) -> dict[str, Any]:
    """The receipt of a row that cannot run here."""
    return _receipt(subject, Basis(), verdict="blocked", reason=reason, remedy=remedy)


def unusable(subject: Subject, basis: Basis, *failures: Failure) -> dict[str, Any]:
    """The receipt of an artifact that was not even opened."""
    return _receipt(
        subject,
        basis,
        verdict="failed",
        reason=_reason(failures),
        failures=[asdict(failure) for failure in failures],
    )


def judged(
    subject: Subject,
    basis: Basis,
    result: CheckResult,
    *,
    executed_on: Mapping[str, Any] | None,
    thresholds: Mapping[str, float],
    toolchain: Mapping[str, str],
    performance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The receipt of an artifact that ran, or tried to."""
    return _receipt(
        subject,
        basis,
        verdict="failed" if result.failures else "passed",
        reason=_reason(result.failures),
        failures=[asdict(failure) for failure in result.failures],
        lint=[asdict(note) for note in result.notes],
        executed_on=executed_on,
        golden=list(result.golden),
        metrics={} if result.metrics is None else asdict(result.metrics),
        thresholds=dict(thresholds),
        validated_tokens=result.validated_tokens,
        toolchain=dict(toolchain),
        performance=performance,
    )


def _reason(failures: tuple[Failure, ...]) -> str:
    told = [
        f"{failure.name}{f' ({failure.prompt})' if failure.prompt else ''}: {failure.what}"
        for failure in failures[:_NAMED_IN_REASON]
    ]
    more = len(failures) - _NAMED_IN_REASON
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _receipt(
    subject: Subject,
    basis: Basis,
    *,
    verdict: str,
    reason: str,
    remedy: str = "",
    failures: list[dict[str, Any]] | None = None,
    lint: list[dict[str, Any]] | None = None,
    executed_on: Mapping[str, Any] | None = None,
    golden: list[Mapping[str, Any]] | None = None,
    metrics: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, float] | None = None,
    validated_tokens: int = 0,
    toolchain: Mapping[str, str] | None = None,
    performance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        **asdict(subject),
        **asdict(basis),
        "verdict": verdict,
        "reason": reason,
        "remedy": remedy,
        "failures": failures or [],
        "lint": lint or [],
        "executed_on": executed_on,
        "golden": golden or [],
        "metrics": metrics or {},
        "thresholds": thresholds or {},
        "validated_tokens": validated_tokens,
        "toolchain": toolchain or {},
        "performance": performance,
        "signer": None,  # filled in when it is signed (phiforge/receipts/signed_receipt.py)
    }


def write_receipt(path: Path, receipt: Mapping[str, Any]) -> None:
    """Validate a receipt and write it by rename.

    Raises:
        ReceiptError: see `check_receipt`; nothing is written.
    """
    check_receipt(path, receipt)
    write_record(path, receipt)


def write_unsigned(path: Path, receipt: Mapping[str, Any]) -> None:
    """Write the receipt of a blocked row; an envelope of an earlier one is removed.

    It holds no more than the configuration said, which is valid: its schema is left to the gate
    (`phiforge.release.scrutiny`), so that saying that nothing ran costs next to nothing.
    """
    envelope_path(path).unlink(missing_ok=True)
    write_record(path, {**receipt, "signer": None})


def check_receipt(path: Path, receipt: Mapping[str, Any]) -> None:
    """Hold a receipt against its schema.

    Raises:
        ReceiptError: it does not satisfy it, a defect of phiforge.
    """
    from phiforge.settings.documents import ConfigurationError, validate  # jsonschema, YAML

    try:
        validate(receipt, "receipt", path)
    except ConfigurationError as error:
        raise ReceiptError(f"this receipt would be malformed: {error}") from None
