"""A lab host: a real sshd on loopback, real cuts, full disks and kills."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed
from phiforge.trust.keys import new_key, read_public
from support.checkout import ROOT, Checkout
from support.lab_bench import VARIANT, Bench
from support.lab_host import SSHD, CuttingProxy, free_port, new_ssh_key
from support.small_disk import give_room, small_disk

CPU_BUILD = "genai-cpu-int4"
pytestmark = pytest.mark.skipif(SSHD is None, reason="needs openssh-server (sshd)")


def test_a_lab_host_s_receipt_makes_a_release_stable(
    copy: Checkout, lab: Bench, tmp_path: Path
) -> None:
    """The CPU build has one row, and its device is behind ssh."""
    new_key(tmp_path / "release.pem", tmp_path / "release.pub", kind="ecdsa")
    rows = lab.rows(runner="ssh", ssh=lab.host())
    options = ["--config", f"device_files={rows}", f"variants={CPU_BUILD}"]
    key = str(tmp_path / "release.pem")
    done = copy.snakemake("--cores", "2", "stable", *options, PHIFORGE_SIGNING_KEY=key)
    assert f"phi3-tiny {CPU_BUILD}: stable since " in done.stdout + done.stderr
    receipt = copy.folder / f"artifacts/checks/phi3-tiny/{CPU_BUILD}/cpu.json"
    told = read_signed(receipt, [read_public(lab.public)])
    assert (told["verdict"], told["kind"], told["runner"]) == ("passed", "device", "ssh")
    assert told["signer"]["occasional"] is False
    assert told["executed_on"]["device"] == "CPU"
    assert copy.planned("all", *options) <= {"index phi3-tiny"}  # which tells of the promotion


def test_a_cut_transfer_goes_on_and_nothing_is_sent_twice(lab: Bench) -> None:
    payload = lab.checkout.folder / "artifacts/build/phi3-tiny" / VARIANT / "payload"
    assert sum(path.stat().st_size for path in payload.iterdir()) > 9_000_000
    with CuttingProxy(lab.server.port, cut_after=6_000_000) as proxy:
        line = lab.fails("connection was cut while sending payload/", port=proxy.port)
        assert "run again; what came over is kept there" in line
        proxy.cut_after, proxy.sent = None, 0
        lab.passes(port=proxy.port)
        assert 1_000_000 < proxy.sent < 8_000_000
        proxy.sent = 0
        lab.receipt.unlink()
        assert "sent 0 of" in lab.passes(port=proxy.port)
        assert proxy.sent < 200_000


def test_another_host_key_is_refused(lab: Bench, tmp_path: Path) -> None:
    other = new_ssh_key(tmp_path / "other").with_suffix(".pub").read_text()
    line = lab.fails("the lab host has another key than the row pins", host_key=other.strip())
    assert " ".join(other.split()[:2]) in line


def test_a_key_that_the_host_does_not_take(lab: Bench, tmp_path: Path) -> None:
    other = new_ssh_key(tmp_path / "other")
    lab.fails(f"does not take the key {other}", identity=str(other))


def test_nobody_listens(lab: Bench) -> None:
    lab.fails("the lab host does not answer", port=free_port())


def test_python_is_missing_or_another(lab: Bench, tmp_path: Path) -> None:
    lab.fails("'/nowhere/python3.11' does not start there", python="/nowhere/python3.11")
    old = tmp_path / "python3.9"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c "
        "'import sys; sys.version_info = (3, 9, 0); exec(sys.stdin.read())'\n"
    )
    old.chmod(0o755)
    lab.fails("is another Python; expected 3.11, found 3.9", python=str(old))


def test_a_full_disk_there_is_told_before_anything_is_sent(lab: Bench) -> None:
    with small_disk(lab.folder / "lab", 20) as disk:
        lab.fails("not enough room on the lab host's disk")
        assert not [*disk.glob("store/*")]
        give_room(disk)
        lab.passes()


def far_process(lab: Bench, module: str) -> psutil.Process:
    """The process that runs ``module`` for this bench's host, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter():
            if module in told(process) and within(process, lab.folder / "lab/jobs"):
                return process
        time.sleep(0.02)
    raise AssertionError(f"{module} never ran")


def told(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def within(process: psutil.Process, folder: Path) -> bool:
    """Whether it, or what started it, works in ``folder``."""
    try:
        return any(
            Path(one.cwd()).is_relative_to(folder) for one in (process, *process.parents()[:1])
        )
    except psutil.Error:
        return False


def start(lab: Bench, **ssh: Any) -> "subprocess.Popen[str]":
    command = lab.arguments(runner="ssh", ssh=lab.host(**ssh))
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_runtime_is_a_verdict_and_a_killed_check_is_not(lab: Bench) -> None:
    running = start(lab)
    far_process(lab, "validators.worker").send_signal(signal.SIGKILL)
    out, err = running.communicate()
    assert running.returncode == 0, out + err
    receipt = read_signed(lab.receipt, [read_public(lab.public)])
    assert [one["name"] for one in receipt["failures"]] == ["runtime-crashed"]
    lab.receipt.unlink()
    envelope_path(lab.receipt).unlink()

    running = start(lab)
    far_process(lab, "validators.worker")
    far_process(lab, "validators.check").send_signal(signal.SIGKILL)
    _, err = running.communicate()
    assert running.returncode == 1 and "the check there ended with SIGKILL" in err
    assert not lab.receipt.exists()
    lab.passes()


def test_a_client_that_dies_leaves_no_check_behind(lab: Bench) -> None:
    """And a second job waits as long as the first has the device."""
    first = start(lab, heartbeat_s=2)
    worker = far_process(lab, "validators.worker")
    worker.suspend()  # a long check
    second = start(lab)
    assert second.stdout is not None
    while "another job uses the CPU of this host; waiting for it" not in second.stdout.readline():
        assert second.poll() is None
    assert worker.is_running()
    first.kill()
    first.communicate()
    out, err = second.communicate()
    assert second.returncode == 0 and "cpu: passed" in out, out + err
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
