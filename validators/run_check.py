"""What a check does: hold the bytes, lint the files, watch it run elsewhere, and judge."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from phiforge.artifact.manifest import PayloadError, verify
from phiforge.receipts.receipt import Basis, Failure, Subject, judged, unusable
from validators.acceptance import load_gates
from validators.code_digest import validator_digest
from validators.contract import CheckError
from validators.evaluation import judge
from validators.golden import load_golden
from validators.isolation import run_in_subprocess
from validators.lint.payload import lint
from validators.redact import redact_paths
from validators.reference_tree import Reference, load_reference


def run_check(
    subject: Subject,
    payload: Path,
    *,
    variant: Mapping[str, Any],
    executor: str,
    reference_folder: Path,
    golden_file: Path,
    acceptance_file: Path,
    overrides: dict[str, Any],
    time_limit_s: float,
    environment: str | None = None,
) -> dict[str, Any]:
    """Look at ``payload``, run it in a child process and judge it; nothing is signed or written.

    Args:
        variant: the payload's block: format, precision, options.
        executor: what must have executed it; the row's ``executes``.

    Raises:
        CheckError: no verdict can be given.
    """
    golden = load_golden(golden_file)
    reference = load_reference(reference_folder)
    gates = load_gates(acceptance_file, subject.precision, overrides)
    _refuse_other_reference(reference_folder, subject, golden.digest, reference)
    code = validator_digest(subject.runtime)
    basis = Basis(reference.digest, golden.digest, gates.digest, code)
    try:
        subject = replace(subject, artifact_sha256=verify(payload))
    except PayloadError as error:
        damage = Failure("damaged-payload", str(error))
        return unusable(subject, basis, *_travelling([damage], payload))
    linted = lint(payload, variant=variant, reference=reference)
    if linted.failures:
        failures = [Failure(one.name, one.what) for one in linted.failures]
        return unusable(subject, basis, *_travelling(failures, payload))
    observation = run_in_subprocess(
        payload,
        subject.runtime,
        subject.settings,
        reference_folder,
        golden_file,
        time_limit_s=time_limit_s,
        environment=environment,
    )
    judgement = judge(
        observation,
        reference,
        golden,
        precision=subject.precision,
        executor=executor,
        gates=gates,
    )
    judgement = replace(
        judgement,
        failures=_travelling(judgement.failures, payload),
        notes=linted.notes + judgement.notes,
    )
    return judged(
        subject,
        basis,
        judgement,
        executed_on=None if observation.evidence is None else observation.evidence.record(),
        thresholds={} if subject.synthetic else gates.thresholds,
        toolchain=observation.toolchain,
        performance=observation.performance,
    )


def _travelling(failures: Iterable[Failure], payload: Path) -> tuple[Failure, ...]:
    """The failures as other machines may read them."""
    return tuple(replace(one, what=redact_paths(one.what, payload)) for one in failures)


def _refuse_other_reference(
    folder: Path, subject: Subject, golden_sha256: str, reference: Reference
) -> None:
    if reference.golden_sha256 != golden_sha256:
        raise CheckError(
            "the reference answered other golden prompts",
            where=folder,
            expected=golden_sha256,
            found=reference.golden_sha256,
            remedy="run the rule reference again",
        )
    if reference.synthetic != subject.synthetic:
        raise CheckError(
            "reference and check disagree on --synthetic",
            where=folder,
            expected=subject.synthetic,
            found=reference.synthetic,
            remedy="run the rule reference again",
        )
