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
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import run_command
from phiforge.receipts.receipt import Subject, blocked, write_unsigned

TOOLCHAIN = ("numpy", "tokenizers", "safetensors", "jsonschema")

_TIME_LIMIT_S = 6 * 3600.0  # a full-size model on a slow machine takes under two hours


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    row = json.loads(options.row_config)
    variant = json.loads(options.variant_config)
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
        write_unsigned(options.receipt, receipt)
    else:
        receipt = _examined(subject, row, variant, options)
    told = f": {receipt['reason']}" if receipt["reason"] else ""
    print(f"{subject.model} {subject.variant} on {subject.device}: {receipt['verdict']}{told}")


def _examined(
    subject: Subject,
    row: Mapping[str, Any],
    variant: Mapping[str, Any],
    options: argparse.Namespace,
) -> dict[str, Any]:
    """The receipt of an artifact that was looked at, signed and written."""
    # Here, because a blocked row must not wait for numpy and what else reads an artifact.
    from phiforge.receipts.signed_receipt import write_signed
    from phiforge.trust.keys import RUNNER_KEY, occasional, private_from_environment
    from validators.run_check import run_check

    # Before the work: a key that cannot be used is told at once.
    signer = private_from_environment(RUNNER_KEY) or occasional()
    receipt = run_check(
        subject,
        options.artifact / "payload",
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
    return receipt


def _named_artifact(build: Path) -> str | None:
    """Digest of a build's payload; a blocked build has none, whatever an earlier run left there."""
    record, sums = build / "BUILD.json", build / "payload" / CHECKSUMS
    if record.is_file() and "blocked" in read_record(record):
        return None
    return sha256_file(sums) if sums.is_file() else None


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
