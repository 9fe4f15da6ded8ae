"""Check an artifact: verify its bytes, lint its files, run it in a child process, evaluate."""

import importlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from phiforge.artifact.manifest import PayloadError, verify
from phiforge.artifact.origin import PREDICTIONS_TAKEN
from phiforge.artifact.record import RecordError, read_record
from phiforge.artifact.tree import TreeError
from phiforge.control_groups import memory_kills, refuse_memory_kill
from phiforge.jobs import NO_LIMITS, Limits
from phiforge.receipts.receipt import Basis, Failure, Note, Subject, compiled, judged, unusable
from validators.acceptance import load_gates
from validators.code_digest import validator_digest
from validators.contract import ArtifactError, CheckError
from validators.evaluation import evaluate
from validators.execution import Own, own_predictions
from validators.golden import load_golden
from validators.isolation import run_in_subprocess
from validators.lint.payload import lint, not_held
from validators.redact import redact_paths
from validators.reference_tree import RECORD, Reference, load_reference


def run_check(
    subject: Subject,
    payload: Path,
    *,
    variant: Mapping[str, Any],
    executor: str,
    tools: Mapping[str, Any],
    reference_folder: Path,
    source: Path | None,
    golden_file: Path,
    acceptance_file: Path,
    overrides: dict[str, Any],
    time_limit_s: float,
    limits: Limits = NO_LIMITS,
    environment: str | None = None,
    refused: Failure | None = None,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """Lint ``payload``, run it in a child process and evaluate it; nothing is signed or written.

    On a compiler row it is compiled instead, and nothing runs.

    Args:
        variant: the payload's block: format, precision, options.
        source: the model's files; None: they are not on this machine.
        executor: what must have executed it; the row's ``executes``.
        tools: what a compiler row compiles with.
        limits: what the variant declares.
        refused: what already stands against it; then nothing is opened.
        predictions: where those of the artifact's own weights are kept; None: nowhere.

    Raises:
        CheckError: no verdict can be given.
        MemoryKillError: it died, perhaps for want of memory, which is no verdict.
    """
    golden = load_golden(golden_file)
    reference = load_reference(reference_folder)
    record = read_record(reference_folder / RECORD)
    gates = load_gates(acceptance_file, subject.precision, overrides, record["simulated"])
    if subject.synthetic:  # its arithmetic is judged, what it says is not
        gates = replace(gates, limits={}, minimum_validated_tokens=0)
    _refuse_other_reference(reference_folder, subject, golden.digest, reference)
    code = validator_digest(subject.runtime)
    basis = Basis(reference.digest, golden.digest, gates.digest, code)
    if refused is not None:
        return unusable(subject, basis, refused)
    try:
        subject = replace(subject, artifact_sha256=verify(payload))
        failures = lint(payload, variant=variant, reference=reference, source=source)
    except (PayloadError, TreeError) as error:
        failures = [Failure("damaged-payload", str(error))]
    if failures:
        return unusable(subject, basis, *_redacted(failures, payload))
    if subject.kind == "compiler":
        return _compiled(subject, basis, payload, tools, time_limit_s, not_held(source))
    kills = memory_kills()
    run = run_in_subprocess(
        payload,
        subject.runtime,
        subject.settings,
        reference_folder,
        golden_file,
        time_limit_s=time_limit_s,
        limits=limits,
        environment=environment,
    )
    predict = partial(
        own_predictions, payload, variant, source, reference_folder, limits, kept=predictions
    )
    own = None
    if run.failure is not None:
        refuse_memory_kill(kills, _work(subject))
    else:
        own = predict()
    pinned = {} if run.evidence is None else run.evidence.pinned
    gates = gates.of_run(held=own is not None, pinned=pinned)
    judge = partial(
        evaluate,
        run,
        reference,
        golden,
        precision=subject.precision,
        executor=executor,
        gates=gates,
    )
    result = judge(own=own)
    if own is not None and own.maker is not None and (result.failures or not own.is_normalised):
        other = own.maker  # nothing fails by the numbers of another machine
        own = predict(afresh=True)
        result = judge(own=own)
        if not result.failures:
            print(
                f"alarm: cache: disagreement: {other} made other predictions of the weights of "
                f"{subject.model}/{subject.variant} than this agent, whose own count",
                flush=True,
            )
    return judged(
        subject,
        basis,
        replace(
            result,
            failures=_redacted(result.failures, payload),
            notes=(*result.notes, *not_held(source), *_taken(own)),
        ),
        executed_on=run.evidence,
        thresholds=gates.thresholds,
        toolchain=run.toolchain,
        performance=run.performance,
    )


def _compiled(
    subject: Subject,
    basis: Basis,
    payload: Path,
    tools: Mapping[str, Any],
    time_limit_s: float,
    notes: tuple[Note, ...],
) -> dict[str, Any]:
    [(_, compiler)] = tools.items()
    module = importlib.import_module(f"validators.runtimes.{subject.runtime}")
    kills = memory_kills()
    try:
        evidence = module.compile_artifact(
            payload, settings=subject.settings, compiler=compiler, time_limit_s=time_limit_s
        )
    except (ArtifactError, RecordError) as error:
        refuse_memory_kill(kills, _work(subject))
        name = error.name if isinstance(error, ArtifactError) else "unreadable-artifact"
        failures = _redacted([Failure(name, str(error))], payload)
        return compiled(subject, basis, None, {}, *failures, notes=notes)
    return compiled(subject, basis, evidence, {"openvino": evidence.openvino}, notes=notes)


def _taken(own: Own | None) -> tuple[Note, ...]:
    """Say in a receipt that the predictions of its weights came from a shared cache."""
    if own is None or own.maker is None:
        return ()
    return (Note(PREDICTIONS_TAKEN, f"{own.maker} computed what the weights predict"),)


def _work(subject: Subject) -> str:
    return f"the check of {subject.variant} on {subject.device}"


def _redacted(failures: Iterable[Failure], payload: Path) -> tuple[Failure, ...]:
    """Return the failures without this machine's paths."""
    return tuple(replace(failure, what=redact_paths(failure.what, payload)) for failure in failures)


def _refuse_other_reference(
    folder: Path, subject: Subject, golden_sha256: str, reference: Reference
) -> None:
    for what, expected, found in (
        ("the reference answered other golden prompts", golden_sha256, reference.golden_sha256),
        ("reference and check disagree on --synthetic", subject.synthetic, reference.synthetic),
    ):
        if found != expected:
            raise CheckError(
                what,
                where=folder,
                expected=expected,
                found=found,
                remedy="run the rule reference again",
            )
