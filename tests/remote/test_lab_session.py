"""A lab host that is cut off, full, silent or odd: a real sshd, and a job of a few lines."""

import json
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from phiforge.remote import RunnerError, ssh
from phiforge.settings.devices import LabHost
from support.lab_bench import small_kit
from support.lab_host import SSHD, CuttingProxy, LabServer, free_port, new_ssh_key
from support.small_disk import give_room, small_disk

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs openssh-server (sshd)")
RUNS = "print('the job ran'); raise SystemExit(3)"
"""A job that shows that it ran, and gives no receipt."""


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The locks of transfers are below the current folder."""
    monkeypatch.chdir(tmp_path)


def host_of(server: LabServer, folder: Path, **ssh: Any) -> LabHost:
    own = {"folder": str(folder / "lab"), "python": sys.executable, "heartbeat_s": 20}
    return LabHost(**server.row(**{**own, **ssh}))


def refusal(server: LabServer, folder: Path, *, job: str = RUNS, **ssh_block: Any) -> RunnerError:
    """The error of a job on the host; it is one line, and no receipt is written."""
    kit = small_kit(folder / "kit", job, ssh_block.pop("payload", b""))
    receipt = folder / "out/cpu.json"
    with pytest.raises(RunnerError) as caught:
        ssh.check_over_ssh(kit, host_of(server, folder, **ssh_block), key=None, into=receipt)
    assert "\n" not in str(caught.value) and not receipt.exists()
    return caught.value


def python_that(folder: Path, program: str) -> str:
    """The name of a Python for the row that runs ``program`` in place of what it is sent."""
    for name in ("store", "heartbeats"):
        (folder / "lab" / name).mkdir(parents=True)
    path = folder / "odd-python"
    path.write_text(f"#!{sys.executable}\nimport sys, time\n{program}\n")
    path.chmod(0o755)
    return str(path)


def answers(*events: str, then: str = "") -> str:
    """A program that prints what an agent would, and more."""
    return "\n".join(
        ["sys.stdin.read()", *(f"print({event!r}, flush=True)" for event in events), then]
    )


PROBED = '{"event": "probed", "present": [], "parts": {}, "free": 9000000000, "environment": true}'
STORED = '{"event": "stored"}'
RUNNING = '{"event": "running", "what": "a job"}'
ALIVE = '{"event": "alive"}'
SAY_ALIVE = f"print({ALIVE!r}, flush=True)"


def test_a_job_runs_and_what_it_printed_is_shown(
    server: LabServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(server, tmp_path)
    assert error.name == "check-failed" and "exit code 3: the job ran" in str(error)
    assert "the job ran" in capsys.readouterr().out
    assert not any((tmp_path / "lab/jobs/CPU").glob("*"))


@pytest.mark.parametrize(
    ("ssh_block", "name", "message"),
    [
        ({"host_key": "other"}, "host-key", "the lab host has another key than the row pins"),
        ({"identity": "other"}, "wrong-key", "does not take the key"),
        ({"port": "free"}, "unreachable", "the lab host does not answer"),
        (
            {"python": "/nowhere/python3.11"},
            "python-missing",
            "python3.11' does not start on the host",
        ),
        ({"python": "3.9"}, "python-version", "is another Python; expected 3.11, found 3.9"),
        ({"runner_key": "keys/none.pem"}, "no-key", "keys/none.pem, the key that signs receipts"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_a_host_that_cannot_be_used_is_named(
    server: LabServer, tmp_path: Path, ssh_block: dict[str, Any], name: str, message: str
) -> None:
    old = "sys.version_info = (3, 9, 0)\nexec(open(0).read())"
    other = new_ssh_key(tmp_path / "other")
    real = {
        "other": {
            "host_key": other.with_suffix(".pub").read_text().strip(),
            "identity": str(other),
        },
        "free": {"port": free_port()},
        "3.9": {"python": python_that(tmp_path, old)},
    }
    ssh_block = {key: real.get(value, {}).get(key, value) for key, value in ssh_block.items()}
    error = refusal(server, tmp_path, **ssh_block)
    assert error.name == name and message in str(error)
    assert not list(tmp_path.glob("lab/store/*")), "nothing was sent"


def test_a_runner_key_is_relative_to_the_account_s_home(server: LabServer, tmp_path: Path) -> None:
    key = tmp_path / "device.pem"
    key.touch()
    job = "import os; print(os.environ['PHIFORGE_RUNNER_KEY']); raise SystemExit(3)"
    written = os.path.relpath(key, Path.home())
    error = refusal(server, tmp_path, job=job, runner_key=written)
    shown = str(error).split("exit code 3: ")[1].split(". Remedy")[0]
    assert Path(shown).is_absolute() and Path(shown).resolve() == key


def test_a_cut_transfer_goes_on_and_nothing_is_sent_twice(
    server: LabServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    payload = os.urandom(9_000_000)
    with CuttingProxy(server.port, cut_after=6_000_000) as proxy:
        error = refusal(server, tmp_path, payload=payload, port=proxy.port)
        assert "connection was cut while sending payload/" in str(error)
        assert "run again; what was sent is kept" in str(error)
        proxy.cut_after, proxy.sent = None, 0
        assert refusal(server, tmp_path, payload=payload, port=proxy.port).name == "check-failed"
        assert 1_000_000 < proxy.sent < 8_000_000
        proxy.sent = 0
        capsys.readouterr()
        assert refusal(server, tmp_path, payload=payload, port=proxy.port).name == "check-failed"
        assert "sent 0 of" in capsys.readouterr().out
        assert proxy.sent < 200_000


def test_a_full_disk_on_the_host_is_reported_before_anything_is_sent(
    server: LabServer, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "lab", 20) as disk:
        payload = os.urandom(9_000_000)
        error = refusal(server, tmp_path, payload=payload)
        assert error.name == "disk-full" and not [*disk.glob("store/*")]
        give_room(disk)
        assert refusal(server, tmp_path, payload=payload).name == "check-failed"


@pytest.mark.parametrize(
    ("program", "time_limit_s", "name", "message"),
    [
        (answers(PROBED, then="time.sleep(99)"), 99, "silent", "silent for 2 s while verifying"),
        (answers(PROBED, STORED, ALIVE, then="time.sleep(99)"), 99, "silent", "running"),
        (
            answers(PROBED, STORED, RUNNING, then=f"while not time.sleep(0.1): {SAY_ALIVE}"),
            0.1, "time-limit", "not done after 0 s, and not ended by the host",
        ),
        ("while True: sys.stdout.write('x' * 1000000)", 99, "odd-answer", "a line of more than"),
    ],
    ids=["silent while storing", "silent while running", "runs for ever", "a line without end"],
)  # fmt: skip
def test_this_side_gives_up_a_host_that_does_not_end(
    server: LabServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    time_limit_s: float,
    name: str,
    message: str,
) -> None:
    monkeypatch.setattr(ssh, "GRACE_S", 0.0)
    started = time.monotonic()
    python = python_that(tmp_path, program)
    error = refusal(server, tmp_path, python=python, heartbeat_s=2, time_limit_s=time_limit_s)
    assert error.name == name and message in str(error)
    assert time.monotonic() - started < 60


ENDED = {"event": "ended", "exit": 0, "files": {}, "log": ""}


def ended(**changes: Any) -> Mapping[str, Any]:
    return {name: value for name, value in {**ENDED, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("event", "name", "message"),
    [
        ({"event": "probed"}, "odd-answer", "its answer 'probed' lacks the field 'present'"),
        ({"event": "refused", "name": []}, "odd-answer", "'refused' has an odd field 'name'"),
        (ended(log=None), "odd-answer", "lacks the field 'log'"),
        (ended(exit="0"), "odd-answer", "odd field 'exit'"),
        (ended(files={"cpu.json": {}}), "odd-answer", "odd field 'files'"),
        (ended(exit=-999), "check-failed", "ended with signal 999"),
        (ended(exit=-9, log="\x1b[2J"), "check-failed", "SIGKILL: \ufffd[2J"),
        (ended(), "no-receipt", "no receipt came back"),
        (ended(files={"cpu.json": "[" * 100_000}), "deep-json", "receipt is refused"),
        (ended(files={"cpu.json": "\ud800"}), "not-json", "receipt is refused"),
        (ended(files={"cpu.json": "[1]"}), "not-json", "receipt is refused"),
    ],
)
def test_an_odd_answer_is_an_error_in_one_line(
    server: LabServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    event: dict[str, Any],
    name: str,
    message: str,
) -> None:
    before = [PROBED, STORED, '{"event": "\\u001b[1m", "what": "\\u001b[2J"}']
    noise = ["[" * 3000 + "\x1b]0;title\x07"]
    program = answers(*noise, *(before if event["event"] == "ended" else []), json.dumps(event))
    error = refusal(server, tmp_path, python=python_that(tmp_path, program))
    assert error.name == name and message in str(error)
    assert "\x1b" not in str(error) + capsys.readouterr().out


def test_a_killed_check_is_an_error_and_no_verdict(server: LabServer, tmp_path: Path) -> None:
    error = refusal(server, tmp_path, job="import os; os.kill(os.getpid(), 9)")
    assert error.name == "check-failed" and "the check on the host ended with SIGKILL" in str(error)


def test_a_client_that_dies_leaves_no_check_behind(
    server: LabServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a second job waits as long as the first has the device."""
    started = tmp_path / "started"
    job = (
        "import pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)'])\n"
        f"pathlib.Path({str(started)!r}).write_text(str(child.pid))\n"
        "time.sleep(99)\n"
    )
    fork = multiprocessing.get_context("fork")
    first = fork.Process(
        target=refusal, args=(server, tmp_path), kwargs={"job": job, "heartbeat_s": 2}
    )
    first.start()
    while not started.is_file() or not started.read_text():
        assert first.is_alive()
        time.sleep(0.05)
    worker = psutil.Process(int(started.read_text()))
    threading.Timer(1.0, first.kill).start()
    second = refusal(server, tmp_path, job=RUNS)
    assert second.name == "check-failed" and "the job ran" in str(second)
    assert "another job uses the CPU of this host; waiting for it" in capsys.readouterr().out
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_job_that_ignores_its_time_limit_is_ended_by_the_host(
    server: LabServer, tmp_path: Path
) -> None:
    """The agent's own limit; its grace is in the text that is sent."""
    job = "import time; print('started', flush=True); time.sleep(99)"
    source = (
        Path(ssh.__file__).with_name("agent.py").read_text().replace("GRACE_S = 120", "GRACE_S = 0")
    )
    own = tmp_path / "agent.py"
    own.write_text(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("phiforge.remote.protocol._AGENT", own)
        error = refusal(server, tmp_path, job=job, time_limit_s=1)
    assert error.name == "time-limit" and "not done after 1 s, ended" in str(error)
