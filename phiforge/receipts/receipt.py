"""Describe a receipt: what one artifact did on one device row."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from phiforge.decoding import Digest, Name, Text
from phiforge.errors import PhiforgeError
from phiforge.receipts.gates import Metrics

SCHEMA: Literal["phiforge/receipt/2"] = "phiforge/receipt/2"
_NAMED_IN_REASON = 4

Kind = Annotated[str, re.compile("device|standin|compiler")]
Precision = Annotated[str, re.compile("fp16|int8|int4|nf4")]


class ReceiptError(PhiforgeError):
    """A receipt cannot be written as it is: a defect of phiforge."""


@dataclass(frozen=True)
class Subject:
    """What a receipt is about: an artifact on a row.

    Attributes:
        device: name of the device row.
        kind: ``device``: the real target; ``standin``: the same pipeline on another processor;
            ``compiler``: the device's compiler takes the artifact, and nothing executes.
        stands_for: the device rows that a stand-in or a compiler speaks for; a device has none.
        precision: of the weights; the gates follow from it.
        runtime: module of ``validators/runtimes`` that ran it.
        settings: the row's settings of that module.
        synthetic: random weights: scored, never released.
        artifact_sha256: digest of the payload's SHA256SUMS; None: there is none.
        runner: how the device was reached.
    """

    model: Text
    variant: Text
    device: Text
    kind: Kind
    stands_for: tuple[str, ...]
    format: str
    precision: Precision
    runtime: str
    settings: Mapping[str, Any]
    synthetic: bool
    artifact_sha256: Digest | None
    runner: Annotated[str, re.compile("local|ssh|cluster|courier")] = "local"


@dataclass(frozen=True)
class Basis:
    """Digests of what an artifact was compared with, and by what code; None: it was not."""

    reference_sha256: Digest | None = None
    golden_sha256: Digest | None = None
    acceptance_sha256: Digest | None = None
    validator_sha256: Digest | None = None


@dataclass(frozen=True)
class Failure:
    """Something that stands against the artifact; ``prompt`` names the prompt that showed it."""

    name: Name
    what: Text
    prompt: str | None = None


@dataclass(frozen=True)
class Note:
    """Something that is reported and not judged."""

    name: Name
    what: Text


@dataclass(frozen=True)
class Proof:
    """One observation of what executed; ``failure`` is None where it holds, else a name."""

    what: Text
    observed: str
    failure: str | None = None


@dataclass(frozen=True)
class ExecutionEvidence:
    """What really executed the artifact, and how we know.

    Attributes:
        device: ``unknown`` if no observation shows it.
        how: the observation that ``device`` rests on, in one sentence.
        proof: every observation that must hold. Without one, nothing is proven.
        pinned: numerics that the check laid down; empty: the runtime's own, as users run it.
        details: names, versions and properties worth keeping, which prove nothing.
    """

    device: Annotated[str, re.compile("CPU|GPU|NPU|DML|CUDA|WEBGPU|unknown")]
    how: Text
    proof: tuple[Proof, ...] = ()
    pinned: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CompileEvidence:
    """What a device's own compiler made of an artifact; no device has seen it.

    Attributes:
        compiler: which compiler, in one phrase with versions.
        openvino: release of OpenVINO that the compiler belongs to.
        platform: the device's generation that the code is for.
        interface: version of the mapped-inference interface that a driver must know.
        submodels: how many were compiled.
        options: the compiler's options.
        ir: name of each file that was compiled to its digest.
        blob_sha256, blob_bytes: of what came out.
    """

    compiler: Text
    openvino: Text
    platform: Text
    interface: Text
    submodels: int
    options: Mapping[str, str]
    ir: Mapping[str, Digest]
    blob_sha256: Digest
    blob_bytes: int


@dataclass(frozen=True)
class Divergence:
    """Where an answer's tokens first leave the reference's.

    Attributes:
        token: index in the answer.
        reference_margin: log-probability of the reference's first choice there minus its second,
            in nats; None: not scored.
    """

    token: int
    reference_margin: float | None


@dataclass(frozen=True)
class Answer:
    """How an answer was made.

    Attributes:
        tokens: how many, without the stop token.
        stopped: a stop token ended it.
        own_text: the runtime's own decoding, where it differs from ``output``.
        diverges_at: None: the tokens are the reference's.
        first_token_s, total_s: seconds; None: the runtime does not say.
    """

    tokens: int
    stopped: bool
    own_text: str | None
    diverges_at: Divergence | None
    first_token_s: float | None
    total_s: float


@dataclass(frozen=True)
class GoldenResult:
    """What became of one golden prompt.

    Attributes:
        output: the answer, decoded by the source's tokenizer without special tokens.
        expected: the known answer or the reference's; None: a synthetic model's.
        passed: None: not run, or nothing to compare with.
        not_run: why the prompt was left out; None: it ran.
    """

    id: str
    prompt: str
    output: str | None
    expected: str | None
    passed: bool | None
    not_run: str | None
    answer: Answer | None


@dataclass(frozen=True)
class Spread:
    """Smallest value, median, 90th percentile and largest of a measured quantity."""

    min: float
    p50: float
    p90: float
    max: float


@dataclass(frozen=True)
class Performance:
    """How fast the golden prompts were answered, one at a time, greedily; not judged.

    Attributes:
        numerics: ``default``: the runtime's own, as users run it; ``pinned``: the check's.
        runs: answers measured, one a prompt; the first answer warmed up and does not count.
        threads: hardware threads that the process could use.
        new_tokens: tokens made, the stop token included.
        first_token_ms: milliseconds from prompt to first token.
        tokens_per_s: after the first token; None: no answer had two.
    """

    numerics: Literal["default", "pinned"]
    runs: int
    threads: int
    prompt_tokens: Spread
    new_tokens: Spread
    first_token_ms: Spread | None
    tokens_per_s: Spread | None


@dataclass(frozen=True)
class ReceiptSigner:
    """Whose key signed a receipt.

    Attributes:
        keyid: SHA-256 of the public key's DER form.
        public_key: the key in PEM form.
        ephemeral: made for this receipt and thrown away: shows edits, not who signed. The
            receipt's own word; what counts is the key that the row names.
    """

    keyid: Digest
    public_key: Text
    ephemeral: bool


@dataclass(frozen=True)
class CheckResult:
    """What a receipt says of a run.

    Attributes:
        failures: empty if the artifact passed.
        golden: one entry a golden prompt, as `GoldenResult` in JSON's types.
        metrics: None if a prompt could not be scored.
        validated_tokens: the longest sequence, prompt and answer, that ran.
    """

    failures: tuple[Failure, ...]
    golden: tuple[Mapping[str, Any], ...]
    metrics: Metrics | None
    validated_tokens: int = field(default=0)
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Receipt(Basis, Subject):
    """What one artifact did on one row; its JSON form has these keys and no others.

    Attributes:
        reason: why it failed or is blocked; else empty.
        remedy: how to get the receipt of a blocked row; else empty.
        lint: what is reported of the artifact and its tokenizer, not judged.
        metrics: None: not all positions could be scored.
        thresholds: metric to the gate that it was judged by, and ``validated_tokens``.
        toolchain: distribution to version, of what ran the artifact.
        compiled: what the compiler made of it; None: nothing was compiled.
        signer: None: blocked, not signed.
    """

    schema: Literal["phiforge/receipt/2"] = SCHEMA
    verdict: Literal["passed", "compiled", "failed", "blocked"] = "blocked"
    reason: str = ""
    remedy: str = ""
    failures: tuple[Failure, ...] = ()
    lint: tuple[Note, ...] = ()
    executed_on: ExecutionEvidence | None = None
    golden: tuple[GoldenResult, ...] = ()
    metrics: Metrics | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    validated_tokens: int = 0
    toolchain: Mapping[str, str] = field(default_factory=dict)
    performance: Performance | None = None
    compiled: CompileEvidence | None = None
    signer: ReceiptSigner | None = None

    @property
    def name(self) -> str:
        """Which receipt this is, ``model/variant/row``."""
        return f"{self.model}/{self.variant}/{self.device}"


def contradictions(receipt: Receipt) -> Iterator[str]:
    """Yield what a receipt's parts say against each other; nothing is compared with the world."""
    verdict = receipt.verdict
    if verdict == "blocked":
        if receipt.executed_on is not None or receipt.signer is not None:
            yield "a blocked receipt has no signer, and nothing executed"
    else:
        if receipt.signer is None or receipt.validator_sha256 is None:
            yield f"a {verdict} receipt names its signer and its validator"
    if (receipt.kind == "compiler" and verdict == "passed") or (
        receipt.kind != "compiler" and (verdict == "compiled" or receipt.compiled is not None)
    ):
        yield f"a {receipt.kind} row says {verdict}: a compiler compiles, and only a run can pass"
    if receipt.kind == "compiler" and (
        receipt.executed_on or receipt.golden or receipt.metrics or receipt.thresholds
    ):
        yield "a compiler's receipt has no answers, metrics or thresholds, and nothing executed"
    if verdict == "compiled":
        if receipt.failures or receipt.artifact_sha256 is None or receipt.compiled is None:
            yield "a compiled receipt has an artifact, the compiler's evidence and no failure"
        return
    if verdict != "passed":
        if not receipt.reason:
            yield f"a {verdict} receipt gives its reason"
        if verdict == "failed" and not receipt.failures:
            yield "a failed receipt names its failures"
        return
    proof = receipt.executed_on.proof if receipt.executed_on else ()
    if receipt.failures or receipt.artifact_sha256 is None or receipt.metrics is None:
        yield "a passed receipt has an artifact, metrics and no failure"
    if not proof or any(one.failure is not None for one in proof):
        yield "a passed receipt proves what executed"


def blocked(subject: Subject, reason: str, remedy: str) -> dict[str, Any]:
    """Return the receipt of a row that cannot run here."""
    return _receipt(subject, Basis(), verdict="blocked", reason=reason, remedy=remedy)


def unusable(subject: Subject, basis: Basis, *failures: Failure) -> dict[str, Any]:
    """Return the receipt of an artifact that was not even opened."""
    return _receipt(subject, basis, verdict="failed", reason=_reason(failures), failures=failures)


def judged(
    subject: Subject,
    basis: Basis,
    result: CheckResult,
    *,
    executed_on: ExecutionEvidence | None,
    thresholds: Mapping[str, float],
    toolchain: Mapping[str, str],
    performance: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the receipt of an artifact that ran, or tried to."""
    return _receipt(
        subject,
        basis,
        verdict="failed" if result.failures else "passed",
        reason=_reason(result.failures),
        failures=result.failures,
        lint=result.notes,
        executed_on=executed_on,
        golden=result.golden,
        metrics=result.metrics,
        thresholds=dict(thresholds),
        validated_tokens=result.validated_tokens,
        toolchain=dict(toolchain),
        performance=performance,
    )


def compiled(
    subject: Subject,
    basis: Basis,
    evidence: CompileEvidence | None,
    toolchain: Mapping[str, str],
    *failures: Failure,
    notes: tuple[Note, ...] = (),
) -> dict[str, Any]:
    """Return the receipt of an artifact that the device's compiler took, or refused.

    Args:
        evidence: None: nothing came out; there are failures then.
    """
    return _receipt(
        subject,
        basis,
        verdict="failed" if failures else "compiled",
        reason=_reason(failures),
        failures=failures,
        lint=notes,
        toolchain=dict(toolchain),
        compiled=evidence,
    )


def _receipt(subject: Subject, basis: Basis, **rest: Any) -> dict[str, Any]:
    """A receipt in JSON's types; it is checked when it is signed."""
    return asdict(Receipt(**vars(subject), **vars(basis), **rest))


def _reason(failures: tuple[Failure, ...]) -> str:
    named = [
        f"{failure.name}{f' ({failure.prompt})' if failure.prompt else ''}: {failure.what}"
        for failure in failures[:_NAMED_IN_REASON]
    ]
    more = len(failures) - _NAMED_IN_REASON
    return "; ".join(named) + (f"; and {more} more" if more > 0 else "")
