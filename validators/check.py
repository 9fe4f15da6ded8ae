"""Check one variant on one device row of this machine, and write its receipt.

The key that signs the receipt is the file that the variable PHIFORGE_RUNNER_KEY names (its
password, if it has one: PHIFORGE_RUNNER_KEY_PASSWORD); without it an ephemeral key signs, and the
receipt says so.

The exit code is 0 whatever the verdict, ``blocked`` included. It is not 0, and there is no
receipt, where no verdict can be given: a mistake in the configuration, a runtime that is not
installed, a reference of other golden prompts. No runtime is ever loaded in this process.
"""

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from phiforge.jobs import Check, read_job
from phiforge.receipts.receipt import Failure, Receipt, Subject
from validators.blocked import subject, tell, write_blocked

TOOLCHAIN = ("numpy", "tokenizers", "safetensors")

TIME_LIMIT_S = 6 * 3600.0  # a full-size model on a slow machine takes under two hours


@dataclass(frozen=True)
class CheckFiles:
    """What a check reads and writes.

    Attributes:
        artifact: folder of the build.
        reference: folder of the reference.
        golden: golden prompts (YAML).
        acceptance: gates (YAML).
        receipt: where the receipt goes, its envelope beside it.
        source: folder of the source's files; None: they are not on this machine.
        first_layers: receipt of the model's first layers, where the row is too slow for all.
        predictions: folder for those of the artifact's own weights; None: they are not kept.
    """

    artifact: Path
    reference: Path
    golden: Path
    acceptance: Path
    receipt: Path
    source: Path | None = None
    first_layers: Path | None = None
    predictions: Path | None = None

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> "CheckFiles":
        """Take them from a command line of `add_arguments`."""
        return cls(**{name: getattr(arguments, name) for name in cls.__dataclass_fields__})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule check or a kit has it")
    parser.add_argument("--artifact", required=True, type=Path, help="folder of the build")
    parser.add_argument("--reference", required=True, type=Path, help="folder of the reference")
    parser.add_argument("--golden", required=True, type=Path, help="golden prompts (YAML)")
    parser.add_argument("--acceptance", required=True, type=Path, help="gates (YAML)")
    parser.add_argument("--receipt", required=True, type=Path, help="where the receipt goes")
    parser.add_argument("--source", type=Path, help="the source's files, where they are here")
    parser.add_argument(
        "--first-layers", nargs="?", type=Path, help="receipt of the first layers of a large model"
    )
    parser.add_argument(
        "--predictions", type=Path, help="where those of the artifact's weights are kept"
    )
    parser.add_argument(
        "--time-limit-s", type=float, default=TIME_LIMIT_S, help="a runtime that hangs is ended"
    )


def run(arguments: argparse.Namespace) -> None:
    check(read_job(Check, arguments.job), CheckFiles.of(arguments), arguments.time_limit_s)


def check(job: Check, files: CheckFiles, time_limit_s: float = TIME_LIMIT_S) -> None:
    """Write the receipt of ``job``, whatever its verdict.

    Raises:
        PhiforgeError: no verdict can be given.
    """
    about = subject(job, files.artifact)
    part = None if files.first_layers is None else _read(files.first_layers)
    if job.blocked is not None and (part is None or part.verdict != "failed"):
        reason = "; ".join([job.blocked.reason, *([] if part is None else [_in_words(part)])])
        receipt = write_blocked(about, replace(job.blocked, reason=reason), files.receipt)
    else:
        receipt = _examined(about, job, files, time_limit_s, part)
    tell(job, receipt)


def _read(path: Path) -> Receipt:
    from phiforge.receipts.signed_receipt import read_signed

    return read_signed(path)


def _in_words(part: Receipt) -> str:
    """Say what became of a model's first layers.

    They are built by the same recipe; what they show counts for no golden prompt.
    """
    if part.metrics is None:
        return f"{part.model}, built alike: {part.verdict} ({part.reason})"
    return (
        f"{part.model}, built alike, ran there: mean KL {part.metrics.mean_kl:.2g}, at most "
        f"{part.metrics.max_kl:.2g} at {part.metrics.positions} positions"
    )


def _examined(
    about: Subject, job: Check, files: CheckFiles, time_limit_s: float, part: Receipt | None
) -> dict[str, Any]:
    """Examine the artifact; sign and write its receipt."""
    # A blocked row must not wait for numpy and what else reads an artifact.
    from phiforge.receipts.signed_receipt import write_signed
    from phiforge.trust.keys import RUNNER_KEY, ephemeral, private_from_environment
    from validators.run_check import run_check

    # Before the work: a key that cannot be used is an error at once.
    signer = private_from_environment(RUNNER_KEY) or ephemeral()
    receipt = run_check(
        about,
        files.artifact / "payload",
        variant=asdict(job.recipe),
        executor=job.row.executes,
        tools=job.tools,
        reference_folder=files.reference,
        source=files.source,
        golden_file=files.golden,
        acceptance_file=files.acceptance,
        overrides=dict(job.gates),
        time_limit_s=time_limit_s,
        limits=job.limits,
        environment=job.row.environment,
        predictions=files.predictions,
        refused=None if part is None else Failure("first-layers", f"{part.name}: {part.reason}"),
    )
    write_signed(files.receipt, receipt, signer)
    return receipt
