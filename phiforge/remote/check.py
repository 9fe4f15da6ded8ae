"""Run a check where its row says: on this machine, on a cluster's node, or on a lab host over ssh.

A lab host that does not answer, or a node without the device, is an error: exit code 1 and no
receipt. Where the row cannot run on this machine, a receipt in the inbox counts; without one it is
blocked.
"""

import argparse
import json
import os
from contextlib import AbstractContextManager
from dataclasses import replace
from getpass import getuser
from pathlib import Path
from socket import gethostname
from tempfile import gettempdir

from phiforge.errors import PhiforgeError
from phiforge.jobs import LABS, NODES, Blocked, Check, Row, read_job
from phiforge.memory import refuse_too_little_memory
from phiforge.receipts.receipt_files import ENVELOPE
from validators import check
from validators.check import CheckFiles


class NodeError(PhiforgeError):
    """The node that the scheduler chose is not what the row asks for."""


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
    else:
        if job.blocked is None and job.row.runner == "cluster":
            prepare_node(job, arguments.key)
        _here(job, files, arguments)


def _here(job: Check, files: CheckFiles, arguments: argparse.Namespace) -> None:
    if job.blocked is None and _needs_lock(job.row):
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


def prepare_node(job: Check, key: Path | None) -> None:
    """Find the row's device on this node, and take the node's own key to sign the receipt with.

    Args:
        key: the public key that the row names.

    Raises:
        NodeError: the device is not here, or another key would sign.
        TrustError: the node's key cannot be read.
    """
    from phiforge.settings.devices import Detect
    from phiforge.settings.plan import missing_here
    from phiforge.trust.keys import RUNNER_KEY, load_public, private_from_environment

    row, node = json.loads(os.environ[NODES])[job.row.name], gethostname()
    missing = missing_here(row["summary"], Detect(**row["detect"]), job.tools)
    if missing is not None:
        raise NodeError(
            f"{missing}, and '{job.row.name}' has runner: cluster",
            where=node,
            remedy="let 'slurm' of the row name nodes that have the device, and run with --profile"
            " profiles/slurm",
        )
    if row["runner_key"] is not None:
        os.environ[RUNNER_KEY] = row["runner_key"]
    signer = private_from_environment(RUNNER_KEY)
    expected = None if key is None else load_public(key.read_bytes(), key).keyid
    if expected is not None and (signer is None or signer.public_key.keyid != expected):
        raise NodeError(
            f"another key would sign the receipt than '{job.row.name}' names",
            where=node,
            expected=expected[:16],
            found="no key" if signer is None else signer.public_key.keyid[:16],
            remedy="name the node's private key in 'slurm.runner_key' of the row",
        )


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
