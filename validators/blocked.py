"""Write the receipts of a variant's rows that cannot run here, all in one job.

They hold no more than the configuration says, and of which artifact it says it.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import Blocked, BlockedRows, Check, read_job
from phiforge.receipts.receipt import Subject, blocked
from phiforge.receipts.receipt_files import write_unsigned


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as a rule for blocked rows has it")
    parser.add_argument("--artifact", required=True, type=Path, help="folder of the build")
    parser.add_argument("--receipts", required=True, type=Path, help="folder of the receipts")


def run(arguments: argparse.Namespace) -> None:
    for job, why in read_job(BlockedRows, arguments.job).pairs():
        path = arguments.receipts / f"{job.row.name}.json"
        tell(job, write_blocked(subject(job, arguments.artifact), why, path))


def subject(job: Check, artifact: Path) -> Subject:
    """Say what a check is about; ``artifact`` is the folder of the build."""
    return Subject(
        model=job.model,
        variant=job.variant,
        device=job.row.name,
        kind=job.row.kind,
        stands_for=job.row.stands_for,
        format=job.recipe.format,
        precision=job.recipe.precision,
        runtime=job.row.runtime,
        settings=job.row.settings,
        synthetic=job.synthetic,
        artifact_sha256=_named_artifact(artifact),
        runner=job.row.runner,
    )


def write_blocked(about: Subject, why: Blocked, path: Path) -> dict[str, Any]:
    """Write the receipt of one row, and return it."""
    receipt = blocked(about, why.reason, why.remedy)
    write_unsigned(path, receipt)
    return receipt


def tell(job: Check, receipt: Mapping[str, Any]) -> None:
    """Print a verdict in one line, for the job's log."""
    reason = f": {receipt['reason']}" if receipt["reason"] else ""
    print(f"{job.model} {job.variant} on {job.row.name}: {receipt['verdict']}{reason}")


def _named_artifact(build: Path) -> str | None:
    """Digest of a build's payload; a blocked build has none, whatever an earlier run left there."""
    record, sums = build / "BUILD.json", build / "payload" / CHECKSUMS
    if record.is_file() and "blocked" in read_record(record):
        return None
    return sha256_file(sums) if sums.is_file() else None
