"""A lab host checks the pipeline's artifacts: a real sshd on loopback, the real validators.

A release that becomes stable by its receipt: docs/devices.md (tests/docs/test_pages.py). What goes
wrong on the way: test_lab_session.py.
"""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from phiforge.receipts.signed_receipt import read_signed
from phiforge.trust.keys import read_public
from support.checkout import ROOT
from support.lab_bench import Bench
from support.lab_host import SSHD

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs openssh-server (sshd)")


def test_a_killed_runtime_is_a_verdict(lab: Bench) -> None:
    command, environment = lab.command(runner="ssh", ssh=lab.host())
    running = subprocess.Popen(
        command, cwd=ROOT, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    far_process(lab, "validators.worker", running).send_signal(signal.SIGKILL)
    out, err = running.communicate()
    assert running.returncode == 0, out + err
    receipt = read_signed(lab.receipt, [read_public(lab.public)])
    assert [failure.name for failure in receipt.failures] == ["runtime-crashed"]


def far_process(lab: Bench, module: str, client: "subprocess.Popen[str]") -> psutil.Process:
    """The process that runs ``module`` for this bench's host, as soon as there is one."""
    while client.poll() is None:
        for process in psutil.process_iter():
            if module in command_line(process) and is_within(process, lab.folder / "lab/jobs"):
                return process
        time.sleep(0.02)
    raise AssertionError(f"{module} was not seen: {client.communicate()}")


def command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def is_within(process: psutil.Process, folder: Path) -> bool:
    """Whether it, or what started it, works in ``folder``."""
    try:
        starters = (process, *process.parents()[:1])
        return any(Path(starter.cwd()).is_relative_to(folder) for starter in starters)
    except psutil.Error:
        return False
