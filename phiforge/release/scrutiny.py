"""Whether a receipt is to be believed: signed, whole, about this artifact, its numbers good.

A signature says that a receipt is what its signer wrote. Everything else that a release rests on
is held against what is true here and now: the artifact, golden prompts, reference, validator and
gates of today, and the row as it is configured. A receipt's own word ``passed`` counts for
nothing where its numbers say otherwise.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import RecordError
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import RowPolicy
from phiforge.receipts.gates import Gates, Metrics
from phiforge.receipts.golden import GoldenSet
from phiforge.receipts.signed_receipt import read_signed
from phiforge.settings.documents import ConfigurationError, validate
from phiforge.trust import AttestationError
from phiforge.trust.keys import PublicKey, read_public
from validators.acceptance import load_gates
from validators.code_digest import validator_digest
from validators.golden import load_golden


@dataclass(frozen=True)
class Row:
    """A device row as it is configured now.

    Attributes:
        executes: what must have done the work.
        available: this machine can run it, so its receipt is not ``blocked``.
        key: whose signature ``stable`` needs; None: the row names no key.
    """

    name: str
    kind: str
    standin_for: str | None
    runtime: str
    settings: Mapping[str, Any]
    executes: str
    available: bool
    key: PublicKey | None


@dataclass(frozen=True)
class Expected:
    """What is true now, and what a receipt must therefore say.

    Attributes:
        rows: the variant's rows by name.
    """

    model: str
    variant: str
    artifact_sha256: str
    reference_sha256: str
    golden: GoldenSet
    gates: Gates
    rows: Mapping[str, Row]


@dataclass(frozen=True)
class Refusal:
    """Why a receipt is not believed, by a name that stays, and in words."""

    row: str
    name: str
    what: str

    def __str__(self) -> str:
        return f"{self.row}: {self.what}"


def read_rows(rows: Mapping[str, RowPolicy]) -> dict[str, Row]:
    """Read the keys of the rows that a job names.

    Raises:
        AttestationError: a row's key file is missing or holds no public key.
    """
    return {
        name: Row(
            name=name,
            kind=policy.row.kind,
            standin_for=policy.row.standin_for,
            runtime=policy.row.runtime,
            settings=policy.row.settings,
            executes=policy.row.executes,
            available=policy.available,
            key=None if policy.key is None else read_public(Path(policy.key)),
        )
        for name, policy in rows.items()
    }


def expect(
    build: Mapping[str, Any],
    *,
    golden: Path,
    reference: Path,
    acceptance: Path,
    overrides: Mapping[str, Any],
    rows: Mapping[str, RowPolicy],
) -> Expected:
    """What the receipts of ``build`` must say.

    Args:
        reference: REFERENCE.json.

    Raises:
        PhiforgeError: one of the files is missing or malformed.
    """
    return Expected(
        model=build["model"],
        variant=build["variant"],
        artifact_sha256=build["artifact_sha256"],
        reference_sha256=sha256_file(reference),
        golden=load_golden(golden),
        gates=load_gates(acceptance, build["precision"], overrides),
        rows=read_rows(rows),
    )


def scrutinize(
    path: Path, row: Row, expected: Expected, keys: Sequence[PublicKey] | None = None
) -> tuple[dict[str, Any] | None, tuple[Refusal, ...]]:
    """The receipt at ``path`` of ``row``, and everything that speaks against believing it.

    ``blocked`` and ``failed`` receipts are believed as such if they are whole; what follows from
    a verdict is the channel's policy, not judged here.

    Args:
        keys: whose signature is believed; None: any, the receipt's own signer.
    """
    try:
        receipt = read_signed(path, keys)
        validate(receipt, "receipt", path)
    except RecordError as error:
        return None, (Refusal(row.name, "missing", str(error)),)
    except AttestationError as error:
        return None, (Refusal(row.name, error.name, error.what),)
    except ConfigurationError as error:
        return None, (Refusal(row.name, "malformed", f"not a receipt ({error})"),)
    where = f"{receipt['model']}/{receipt['variant']}/{receipt['device']}"
    if where != f"{expected.model}/{expected.variant}/{row.name}":
        return receipt, (Refusal(row.name, "copied", f"copied, it is the receipt of {where}"),)
    against = [
        Refusal(row.name, name, what)
        for name, what in (*_bound(receipt, row, expected), *_good(receipt, row, expected))
    ]
    return receipt, tuple(against)


def _bound(receipt: Mapping[str, Any], row: Row, expected: Expected) -> Iterator[tuple[str, str]]:
    """What the receipt is about, and by which code and row it was made."""
    if receipt["artifact_sha256"] not in (expected.artifact_sha256, None):
        yield "stale", "stale, it is about another artifact"
    if receipt["artifact_sha256"] is None and receipt["verdict"] != "blocked":
        yield "stale", "stale, there was no artifact"
    for key in ("kind", "standin_for", "runtime", "settings"):
        if receipt[key] != getattr(row, key):
            told = f"its {key} is {receipt[key]!r}, the row's is {getattr(row, key)!r}"
            yield "other-row", f"made by another row than the configured one: {told}"
    if receipt["verdict"] == "blocked":
        if row.available:
            yield "blocked-here", "blocked, and yet it can run here"
        return
    for key, noun, now in (
        ("golden_sha256", "golden", expected.golden.digest),
        ("reference_sha256", "reference", expected.reference_sha256),
        ("validator_sha256", "validator", validator_digest(row.runtime)),
    ):
        if receipt[key] != now:
            what = {
                "golden": "it answers other golden prompts",
                "reference": "it was compared with another reference",
                "validator": "another validator's code made it",
            }[noun]
            yield f"other-{noun}", f"{what}: {str(receipt[key])[:16]}…, now {now[:16]}…"


def _good(receipt: Mapping[str, Any], row: Row, expected: Expected) -> Iterator[tuple[str, str]]:
    """The recorded numbers, judged again; only ``passed`` claims that they are good."""
    if receipt["verdict"] != "passed":
        return
    gates = expected.gates
    if receipt["thresholds"] != gates.thresholds:
        told = f"judged by {dict(receipt['thresholds'])}, the gates are {gates.thresholds}"
        yield "other-thresholds", f"its thresholds are not the current gates: {told}"
    elif receipt["acceptance_sha256"] != gates.digest:
        yield "other-thresholds", "its thresholds are of another acceptance file"
    metrics = Metrics(**receipt["metrics"])
    for name, (value, gate) in gates.broken(metrics).items():
        yield "failing-numbers", f"'passed', but its {name} is {value:.4g}, the gate is {gate:.4g}"
    if not all(map(math.isfinite, astuple(metrics))):
        yield "failing-numbers", "'passed', but a metric is not finite"
    wanted = [(prompt.id, prompt.text) for prompt in expected.golden.prompts]
    answered = [(answer["id"], answer["prompt"]) for answer in receipt["golden"]]
    if answered != wanted:
        yield "failing-numbers", "'passed', but not every golden prompt is in it"
    for answer in receipt["golden"]:
        if answer["not_run"] is None and not answer["passed"]:
            yield "failing-numbers", f"'passed', but golden prompt {answer['id']} did not"
    if not any(answer["passed"] for answer in receipt["golden"]):
        yield "failing-numbers", "'passed', but no golden prompt was answered"
    if receipt["executed_on"]["device"] != row.executes:
        device = receipt["executed_on"]["device"]
        yield "failing-numbers", f"'passed', but {device} executed it, {row.executes} must have"
