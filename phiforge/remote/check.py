"""Run a check where its row says: on this machine, or on a lab host over ssh.

A lab host that does not answer is an error: exit code 1 and no receipt. Where the row cannot
run on this machine, a receipt in the inbox counts; without one it is blocked.
"""

import argparse
import json
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from tempfile import gettempdir

from phiforge.jobs import Blocked, Check, Row, read_job
from phiforge.memory import refuse_too_little_memory
from phiforge.receipts.receipt_files import ENVELOPE
from validators import check
from validators.check import CheckFiles

LABS = "PHIFORGE_LABS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    check.add_arguments(parser)
    parser.add_argument("--key", nargs="?", type=Path, help="public key that signs the receipts")
    parser.add_argument("--lock", nargs="?", type=Path, help="the device's locked environment")
    parser.add_argument("--inbox", nargs="*", type=Path, default=[], help="files of the inbox")
    parser.add_argument("--memory-mb", type=int, default=0, help="memory that the check needs")


def run(arguments: argparse.Namespace) -> None:
    job, files = read_job(Check, arguments.job), CheckFiles.of(arguments)
    # Never a verdict: a runtime that the kernel kills would pass for one that crashed.
    work = f"checking {job.model} {job.variant} on {job.row.name}"
    refuse_too_little_memory(work, arguments.memory_mb)
    if job.blocked is not None and arguments.inbox:
        _from_inbox(job, job.blocked, files, arguments)
    elif job.blocked is None and job.row.runner == "ssh":
        _over_ssh(job, files, arguments)
    elif job.blocked is None and _needs_lock(job.row):
        with device_lock(job.row.executes):
            check.check(job, files, arguments.time_limit_s)
    else:
        check.check(job, files, arguments.time_limit_s)


def _needs_lock(row: Row) -> bool:
    """Return whether the row is a device that one job uses at a time; processors are shared."""
    return row.kind == "device" and row.executes != "CPU"


def device_lock(device: str, folder: Path | None = None) -> AbstractContextManager[None]:
    """Hold ``device`` (``NPU``, ``GPU``, …) until the block ends; wait, saying so, if it is in use.

    The system frees the lock when this process ends, however. Two jobs at once would slow each
    other's measurements, and each would pass for the other's activity.

    Args:
        folder: where the lock's file is; by default the system's folder for temporary files.
    """
    from phiforge.remote.agent import exclusive_lock, report_to_person

    path = (folder or Path(gettempdir())) / f"phiforge-{getuser()}-{device}.lock"
    waiting = f"another job uses the {device} of this machine; waiting for it"
    return exclusive_lock(path, waiting, report_to_person)


def _over_ssh(job: Check, files: CheckFiles, arguments: argparse.Namespace) -> None:
    from phiforge.remote.kit import make_kit
    from phiforge.remote.ssh import check_over_ssh
    from phiforge.settings.devices import LabHost

    host = LabHost(**json.loads(os.environ[LABS])[job.row.name])
    kit = make_kit(job, files, lock=arguments.lock, time_limit_s=host.time_limit_s)
    check_over_ssh(kit, host, key=arguments.key, into=files.receipt)


def _from_inbox(
    job: Check, blocked: Blocked, files: CheckFiles, arguments: argparse.Namespace
) -> None:
    from phiforge.remote.inbox import take

    files_of_row = [path for path in arguments.inbox if not path.name.endswith(ENVELOPE)]
    taken, notes = take(files_of_row, job, files, arguments.key)
    for note in notes:
        print(f"note: {note}")
    if not taken:
        reason = "; ".join([blocked.reason, *notes])
        check.check(replace(job, blocked=replace(blocked, reason=reason)), files)
