"""Hold receipts against a channel's policy: the same for gate, promotion and verifier.

A signature says that a receipt is what its signer wrote. Everything else that a release rests on
is held against a `Policy`: the artifact, the golden prompts, reference, validator and gates, the
rows and the keys that they name. A receipt's own word ``passed`` counts for nothing where its
numbers or answers say otherwise.

A **candidate** needs a receipt of every row: none failed, every stand-in passed, no compiler that
is here refused it, and at least one row executed or compiled this very artifact. What was compiled
from another variant takes that one's stand-ins for its own (`Base`), and must have been compiled. A
row that names a key needs that key's signature; else any will do, which shows that nothing was
changed since. **stable** needs, besides, that every required device row has passed and names a key.
``compiled`` never stands for ``passed``: the vendor's own compiler took it, no device has seen it.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.npu_blob import BLOB
from phiforge.decoding import Digest
from phiforge.receipts.coverage import device_of
from phiforge.receipts.gates import Gates
from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from phiforge.receipts.receipt import GoldenResult, Kind, Receipt

PROMOTION = "promotion.dsse.json"
CHANNELS = ("candidate", "stable")


@dataclass(frozen=True)
class Base:
    """The artifact that another was compiled from; both run the same code path on a stand-in."""

    variant: str
    artifact_sha256: Digest


@dataclass(frozen=True)
class Row:
    """A device row as it was configured when the gate judged.

    Attributes:
        executes: the device that must have done the work; of a compiler, what its code is for.
        available: the row could run, so its receipt must not be ``blocked``.
        keyid: whose signature counts; None: the row names no key.
        validator_sha256: digest of the code that checks on this row.
        required: stable needs this device row.
        base: the artifact that the receipt is about; None: the variant's own.
        left_out: prompt id to why it does not run there, as the variant declares.
    """

    kind: Kind
    stands_for: tuple[str, ...]
    runtime: str
    settings: Mapping[str, Any]
    executes: str
    available: bool
    keyid: Digest | None
    validator_sha256: Digest
    required: bool
    base: Base | None
    left_out: Mapping[str, str]


@dataclass(frozen=True)
class Policy:
    """What the receipts of a variant must say.

    Attributes:
        rows: the variant's rows by name.
    """

    model: str
    variant: str
    precision: str
    artifact_sha256: Digest
    reference_sha256: Digest
    golden: GoldenSet
    gates: Gates
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Violation:
    """Why a receipt, or all of them, do not meet the policy.

    Attributes:
        row: the row; empty: it is about all of them.
        name: kebab-case, stable.
        what: the same in words.
    """

    row: str
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.row}: {self.what}" if self.row else self.what


def check_receipt(
    receipt: Receipt, row_name: str, policy: Policy, payload: Mapping[str, str]
) -> Iterator[Violation]:
    """Yield everything that speaks against believing a receipt whose signature is good.

    ``blocked`` and ``failed`` receipts are believed as such; what follows from a verdict is
    `check_channel`'s.

    Args:
        payload: the artifact's file names to hex SHA-256.
    """
    row = policy.rows[row_name]
    variant = row.base.variant if row.base else policy.variant
    if receipt.name != f"{policy.model}/{variant}/{row_name}":
        what = f"copied, it is the receipt of {receipt.name}"
        yield Violation(row_name, "copied-receipt", what)
        return
    for name, what in (
        *_binding(receipt, row, policy),
        *_compilation(receipt, row, payload),
        *_numbers(receipt, row, policy),
    ):
        yield Violation(row_name, name, what)


def _binding(receipt: Receipt, row: Row, policy: Policy) -> Iterator[tuple[str, str]]:
    """What the receipt is about, and by which key, code and row it was made."""
    if receipt.artifact_sha256 is None and receipt.verdict != "blocked":
        yield "stale-receipt", "stale, there was no artifact"
    elif receipt.artifact_sha256 not in (_artifact(row, policy), None):
        yield "stale-receipt", "stale, it is about another artifact"
    for key in ("kind", "stands_for", "runtime", "settings"):
        found, expected = getattr(receipt, key), getattr(row, key)
        if found != expected:
            what = f"its {key} is {found!r}, the row's is {expected!r}"
            yield "other-row", f"made by another row than the configured one: {what}"
    if receipt.signer is None:  # blocked
        if row.available:
            yield "blocked-here", "blocked, and yet it can run here"
        return
    if row.keyid is not None and receipt.signer.keyid != row.keyid:
        signer = f"signed by key {receipt.signer.keyid[:16]}…, the row names {row.keyid[:16]}…"
        yield "wrong-key", signer
    for noun, found, expected in (
        ("golden", receipt.golden_sha256, policy.golden.digest),
        ("reference", receipt.reference_sha256, policy.reference_sha256),
        ("validator", receipt.validator_sha256, row.validator_sha256),
    ):
        compares = noun == "validator" or row.kind != "compiler"  # it answers no prompt
        if compares and found != expected:
            what = {
                "golden": "it answers other golden prompts",
                "reference": "it was compared with another reference",
                "validator": "another validator's code made it",
            }[noun]
            yield f"other-{noun}", f"{what}: {str(found)[:16]}…, now {expected[:16]}…"


def _artifact(row: Row, policy: Policy) -> str:
    return row.base.artifact_sha256 if row.base else policy.artifact_sha256


def _compilation(
    receipt: Receipt, row: Row, payload: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """What a compiler says that it took, against the artifact and the row."""
    evidence = receipt.compiled
    if receipt.verdict != "compiled" or evidence is None:
        return
    if not evidence.ir:
        yield "other-ir", "'compiled', but it names no file that was"
    for name, digest in evidence.ir.items():
        if payload.get(name) != digest:
            what = f"{digest[:16]}…, this artifact's is {str(payload.get(name))[:16]}…"
            yield "other-ir", f"'compiled', but from another {name}: {what}"
    if payload.get(BLOB, evidence.blob_sha256) != evidence.blob_sha256:
        what = f"{evidence.blob_sha256[:16]}…, the artifact holds {payload[BLOB][:16]}…"
        yield "other-blob", f"'compiled', but into another blob: {what}"
    if (platform := row.settings.get("platform", evidence.platform)) != evidence.platform:
        what = f"it was compiled for {evidence.platform}, the row is {platform}"
        yield "other-generation", f"of another generation: {what}"


def _numbers(receipt: Receipt, row: Row, policy: Policy) -> Iterator[tuple[str, str]]:
    """The recorded numbers and answers, judged again; only ``passed`` claims that they are good."""
    if receipt.verdict != "passed" or receipt.metrics is None or receipt.executed_on is None:
        return
    held = receipt.metrics.execution_kl is not None
    if not held and all(note.name != "weights-not-held" for note in receipt.lint):
        yield "failing-numbers", "'passed', but nothing was computed with its own weights"
    gates = policy.gates.of_run(held=held, pinned=receipt.executed_on.pinned)
    if receipt.thresholds != gates.thresholds:
        what = f"judged by {dict(receipt.thresholds)}, the gates are {gates.thresholds}"
        yield "other-thresholds", f"its thresholds are not the current gates: {what}"
    elif receipt.acceptance_sha256 != gates.digest:
        yield "other-thresholds", "its thresholds are of another acceptance file"
    for name, (value, gate) in gates.broken(receipt.metrics).items():
        yield "failing-numbers", f"'passed', but its {name} is {value:.4g}, the gate is {gate:.4g}"
    if not receipt.metrics.is_finite:
        yield "failing-numbers", "'passed', but a metric is not finite"
    if receipt.validated_tokens < gates.minimum_validated_tokens:
        what = f"{receipt.validated_tokens} tokens, {gates.minimum_validated_tokens} must have run"
        yield "failing-numbers", f"'passed', but its longest sequence has {what}"
    for what in _answers(receipt, row, policy):
        yield "failing-answers", f"'passed', but {what}"
    if receipt.executed_on.device != row.executes:
        device = receipt.executed_on.device
        yield "wrong-device", f"'passed', but {device} executed it, {row.executes} must have"
    platform = row.settings.get("platform") if row.executes == "NPU" else None
    if platform is not None and platform != (found := device_of(receipt).generation):
        what = f"{found or 'an unknown one'} executed it, the row is {platform}"
        yield "other-generation", f"'passed', but of another generation: {what}"


def _answers(receipt: Receipt, row: Row, policy: Policy) -> Iterator[str]:
    prompts = policy.golden.prompts
    if [(one.id, one.prompt) for one in receipt.golden] != [(one.id, one.text) for one in prompts]:
        yield "not every golden prompt is in it"
        return
    if not any(one.passed for one in receipt.golden):
        yield "no golden prompt was answered"
    left_out = [one.id for one in receipt.golden if one.not_run is not None]
    if 2 * len(left_out) > len(prompts):  # a device may be too small for the longest few
        few = f"{len(left_out)} of {len(prompts)} golden prompts were not run"
        yield f"{few}, and at least half must: {', '.join(left_out)}"
    for answer, prompt in zip(receipt.golden, prompts, strict=True):
        if answer.not_run is not None and answer.not_run != row.left_out.get(prompt.id):
            reason = "declares no reason for it"
            yield f"golden prompt {prompt.id} did not run ({answer.not_run}), the variant {reason}"
        elif answer.not_run is None:
            problem = _answer_problem(answer, prompt, policy.precision)
            if problem is not None:
                yield f"golden prompt {prompt.id} {problem}"


def _answer_problem(answer: GoldenResult, prompt: GoldenPrompt, precision: str) -> str | None:
    """Why a recorded answer is not right; see `validators.verdict` for what is asked of whom."""
    if not answer.passed or answer.output is None:
        return "did not"
    if prompt.expected is not None and answer.output != prompt.expected:
        return f"answers {answer.output[:60]!r}, {prompt.expected[:60]!r} is expected"
    if prompt.expected is None and precision == "fp16" and answer.output != answer.expected:
        return "has another answer than the reference"
    if prompt.must_contain is not None and prompt.must_contain not in answer.output:
        return f"lacks {prompt.must_contain!r} in its answer"
    return None


def check_rows(rows: Mapping[str, Row], payload: Collection[str]) -> Iterator[Violation]:
    """Yield which rows are not among those that an artifact with these files is judged by."""
    for kind, what in {
        "standin": "no stand-in has run the IR that the blob was compiled from",
        "compiler": "no compiler row holds the blob against that IR",
    }.items():
        if BLOB in payload and not any(row.kind == kind for row in rows.values()):
            yield Violation("", f"no-{kind}-row", what)


def check_channel(
    receipts: Collection[Receipt], channel: str, rows: Mapping[str, Row]
) -> Iterator[Violation]:
    """Yield what keeps believed receipts from meeting ``channel``, one of ``CHANNELS``."""
    verdicts = {receipt.device: receipt for receipt in receipts}
    for name in sorted(rows.keys() - verdicts.keys()):
        yield Violation(name, "missing-receipt", "there is no receipt of this row")
    has_base = any(row.base for row in rows.values())
    for receipt in receipts:
        if receipt.verdict == "failed":
            yield Violation(receipt.device, "failed", f"failed ({receipt.reason})")
        elif (receipt.verdict, receipt.kind) == ("blocked", "standin") and (
            rows[receipt.device].executes == "CPU"  # which is here; DirectML in software may not be
        ):
            what = f"stand-in is blocked ({receipt.reason})"
            yield Violation(receipt.device, "standin-blocked", what)
        elif receipt.verdict == "blocked" and receipt.kind == "compiler" and has_base:
            what = f"what is compiled must have been compiled here ({receipt.reason})"
            yield Violation(receipt.device, "not-compiled", what)
    own = [receipt for receipt in receipts if rows[receipt.device].base is None]
    if not any(receipt.verdict in ("passed", "compiled") for receipt in own):
        what = "no receipt of this artifact passed or is compiled: nothing executed or compiled it"
        yield Violation("", "nothing-ran", what)
    if channel == "stable":
        yield from _stable(verdicts, rows)


def _stable(receipts: Mapping[str, Receipt], rows: Mapping[str, Row]) -> Iterator[Violation]:
    needed = required_rows(rows)
    if not needed:
        yield Violation("", "no-device-row", "stable needs a device row; a stand-in is no device")
    for name, row in needed.items():
        if name in receipts and receipts[name].verdict not in ("passed", "failed"):
            what = f"{receipts[name].verdict} ({receipts[name].reason})"
            yield Violation(name, "device-blocked", f"stable needs {name} to pass: {what}")
        elif row.keyid is None:
            what = "stable needs a receipt that someone vouches for: the row names no key"
            yield Violation(name, "no-key", what)


def required_rows(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Return the device rows that stable rests on, by name."""
    return {name: row for name, row in rows.items() if row.kind == "device" and row.required}


def missing_for_stable(policy: Policy, receipts: Collection[Receipt]) -> tuple[str, ...]:
    """Return the device rows that keep a candidate from being stable, in the rows' order."""
    found = {receipt.device: receipt for receipt in receipts}
    short = {violation.row for violation in _stable(found, policy.rows)}
    return tuple(name for name in policy.rows if name in short)


def is_promoted(release: Path) -> bool:
    """Return whether a release folder holds a promotion; nothing is verified."""
    return (release / "evidence" / PROMOTION).is_file()
