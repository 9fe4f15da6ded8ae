"""Check one variant on one device row and write its receipt.

    python -m validators.check --model M --variant V --row ROW --row-config JSON
        --variant-config JSON --artifact artifacts/build/M/V --reference artifacts/reference/M
        --golden FILE --acceptance FILE --overrides JSON --receipt OUT.json
        [--synthetic] [--blocked REASON --remedy TEXT]

The key that signs the receipt is the file that the variable PHIFORGE_RUNNER_KEY names (its
password, if it has one: PHIFORGE_RUNNER_KEY_PASSWORD); without it a key made for the occasion
signs, and the receipt says so.

The exit code is 0 whatever the verdict, ``blocked`` included. It is not 0, and there is no
receipt, where no verdict can be given: a mistake in the configuration, a runtime that is not
installed, a reference of other golden prompts. No runtime is ever loaded in this process.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attestation.keys import RUNNER_KEY, occasional, private_from_environment
from records.errors import run_command
from records.record import read_record
from records.tree import sha256_file
from release.manifest import CHECKSUMS, PayloadError, verify
from validators.acceptance import load_gates
from validators.contract import CheckError
from validators.golden import load_golden
from validators.isolation import observe_isolated
from validators.judgement import Failure
from validators.lint.payload import lint
from validators.own_code import validator_digest
from validators.receipt import Basis, Subject, blocked, judged, unusable
from validators.reference_tree import Reference, load_reference
from validators.signed_receipt import write_signed
from validators.verdict import judge

TOOLCHAIN = ("numpy", "tokenizers", "safetensors", "jsonschema")

_TIME_LIMIT_S = 6 * 3600.0  # a full-size model on a slow machine takes under two hours


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    row = json.loads(options.row_config)
    variant = json.loads(options.variant_config)
    # Before the work: a key that cannot be used is told at once.
    signer = private_from_environment(RUNNER_KEY) or occasional()
    payload = options.artifact / "payload"
    subject = Subject(
        model=options.model,
        variant=options.variant,
        device=options.row,
        kind=row["kind"],
        standin_for=row["standin_for"],
        format=variant["format"],
        precision=variant["precision"],
        runtime=row["module"],
        settings=row["settings"],
        synthetic=options.synthetic,
        artifact_sha256=_named_artifact(options.artifact),
        runner=row.get("runner", "local"),
    )
    if options.blocked is not None:
        receipt = blocked(subject, options.blocked, options.remedy)
    else:
        receipt = check(
            subject,
            payload,
            variant=variant,
            executor=row["executes"],
            reference_folder=options.reference,
            golden_file=options.golden,
            acceptance_file=options.acceptance,
            overrides=json.loads(options.overrides),
            time_limit_s=options.time_limit_s,
            environment=row.get("environment"),
        )
    write_signed(options.receipt, receipt, signer)
    told = f": {receipt['reason']}" if receipt["reason"] else ""
    print(f"{subject.model} {subject.variant} on {subject.device}: {receipt['verdict']}{told}")


def _named_artifact(build: Path) -> str | None:
    """Digest of a build's payload; a blocked build has none, whatever an earlier run left there."""
    record, sums = build / "BUILD.json", build / "payload" / CHECKSUMS
    if record.is_file() and "blocked" in read_record(record):
        return None
    return sha256_file(sums) if sums.is_file() else None


def check(
    subject: Subject,
    payload: Path,
    *,
    variant: Mapping[str, Any],
    executor: str,
    reference_folder: Path,
    golden_file: Path,
    acceptance_file: Path,
    overrides: dict[str, Any],
    time_limit_s: float = _TIME_LIMIT_S,
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
        return unusable(subject, basis, Failure("damaged-payload", str(error)))
    linted = lint(payload, variant=variant, reference=reference)
    if linted.failures:
        failures = [Failure(one.name, one.what) for one in linted.failures]
        return unusable(subject, basis, *failures)
    observation = observe_isolated(
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
    judgement = replace(judgement, notes=linted.notes + judgement.notes)
    return judged(
        subject,
        basis,
        judgement,
        executed_on=None if observation.evidence is None else observation.evidence.record(),
        thresholds={} if subject.synthetic else gates.thresholds,
        toolchain=observation.toolchain,
        measures=observation.measures,
    )


def _refuse_other_reference(
    folder: Path, subject: Subject, golden_sha256: str, reference: Reference
) -> None:
    if reference.golden_sha256 != golden_sha256:
        raise CheckError(
            "the reference answered other golden prompts",
            where=folder,
            expected=golden_sha256,
            found=reference.golden_sha256,
            remedy="run 'python -m validators.reference' again",
        )
    if reference.synthetic != subject.synthetic:
        raise CheckError(
            "reference and check disagree on --synthetic",
            where=folder,
            expected=subject.synthetic,
            found=reference.synthetic,
            remedy="run 'python -m validators.reference' again",
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of this command; `runners` asks too, to carry them to a device elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m validators.check", description=__doc__)
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--variant", required=True, help="name of the variant")
    parser.add_argument("--row", required=True, help="name of the device row")
    parser.add_argument("--row-config", required=True, help="what the row says, as JSON")
    parser.add_argument(
        "--variant-config", required=True, help="format, precision, options, as JSON"
    )
    parser.add_argument("--artifact", required=True, type=Path, help="folder of the build")
    parser.add_argument("--reference", required=True, type=Path, help="folder of the reference")
    parser.add_argument("--golden", required=True, type=Path, help="golden prompts (YAML)")
    parser.add_argument("--acceptance", required=True, type=Path, help="gates (YAML)")
    parser.add_argument("--overrides", default="{}", help="the model's own gates, as JSON")
    parser.add_argument("--receipt", required=True, type=Path, help="where the receipt goes")
    parser.add_argument("--synthetic", action="store_true", help="random weights: score only")
    parser.add_argument("--blocked", help="why the row cannot run here; nothing is run")
    parser.add_argument("--remedy", default="", help="what to do about a blocked row")
    parser.add_argument(
        "--time-limit-s", type=float, default=_TIME_LIMIT_S, help="a runtime that hangs is ended"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
