"""Devices that are elsewhere: a real sshd on loopback, real kits, real cuts and kills."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from attestation.keys import new_key, read_public
from checkout import ROOT, Checkout
from configuration.devices import load_devices
from configuration.plan import row_settings
from configuration.settings import load
from lab_host import SSHD, CuttingProxy, LabServer, free_port, lab_server, new_ssh_key
from records.record import read_record
from validators.signed_receipt import envelope_path, read_signed

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs openssh-server (sshd)")
VARIANT = "openvino-int4"
CHECK = f"artifacts/checks/phi3-tiny/{VARIANT}/cpu.json"
ROWS: Mapping[str, Any] = {
    "cpu": {
        "summary": "the lab's CPU",
        "kind": "device",
        "executes": "CPU",
        "runtimes": {
            "openvino": {
                "module": "openvino",
                "lock": "device-openvino",
                "settings": {"device": "CPU"},
            },
            "onnx-genai": {
                "module": "onnx_genai",
                "lock": "device-onnx-genai",
                "settings": {"provider": "cpu"},
            },
        },
    }
}


@dataclass(frozen=True)
class Bench:
    """One check of the pipeline's artifact, by a lab host or from an inbox, in its own folder."""

    checkout: Checkout
    folder: Path
    server: LabServer
    private: Path
    public: Path

    @property
    def receipt(self) -> Path:
        return self.folder / "out/cpu.json"

    def rows(self, **row: Any) -> Path:
        """A lab's own file with the row ``cpu``."""
        path = self.folder / "devices.yaml"
        block = {**ROWS["cpu"], "key": str(self.public), **row}
        path.write_text(yaml.safe_dump({"cpu": block}), encoding="utf-8")
        return path

    def host(self, **ssh: Any) -> dict[str, Any]:
        own = {"folder": str(self.folder / "lab"), "runner_key": str(self.private)}
        return self.server.row(**{**own, "python": sys.executable, **ssh})

    def arguments(self, *extra: str, **row: Any) -> list[str]:
        """The command that rule check runs."""
        config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
        settings = load(config, ROOT / "config")
        variant = settings.variants[VARIANT]
        device = load_devices([ROOT / "config/devices.yaml", self.rows(**row)])["cpu"]
        labs = {"cpu": asdict(device.ssh)} if device.ssh else {}
        artifacts = self.checkout.folder / "artifacts"
        return [
            sys.executable, "-m", "runners", "check", "--labs", json.dumps(labs),
            "--key", str(device.key), "--lock", "envs/device-openvino.lock",
            "--model", "phi3-tiny", "--variant", VARIANT, "--row", "cpu",
            "--row-config", json.dumps(row_settings(device, variant)),
            "--variant-config", json.dumps({"format": "openvino", "precision": "int4"}),
            "--artifact", str(artifacts / "build/phi3-tiny" / VARIANT),
            "--reference", str(artifacts / "reference/phi3-tiny"),
            "--golden", str(ROOT / "models/phi3-tiny/golden.yaml"),
            "--acceptance", "config/acceptance.yaml", "--receipt", str(self.receipt), *extra,
        ]  # fmt: skip

    def ssh(self, **ssh: Any) -> subprocess.CompletedProcess[str]:
        return run(self.arguments(runner="ssh", ssh=self.host(**ssh)))

    def fails(self, expected: str, **ssh: Any) -> str:
        """A lab host's trouble: one line, exit code 1, no receipt; that line."""
        done = self.ssh(**ssh)
        assert done.returncode == 1, done.stdout + done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: ") and expected in line
        assert not self.receipt.exists() and not envelope_path(self.receipt).exists()
        return line

    def passes(self, **ssh: Any) -> str:
        """A run whose signed receipt came back; what was printed."""
        done = self.ssh(**ssh)
        assert done.returncode == 0, done.stdout + done.stderr
        told = read_signed(self.receipt, [read_public(self.public)])
        assert (told["verdict"], told["kind"], told["runner"]) == ("passed", "device", "ssh")
        return done.stdout

    def inbox(self, *files: Path, **row: Any) -> subprocess.CompletedProcess[str]:
        """A check of a row that is not here, with what a courier brought."""
        row = {"runner": "courier", **row}
        more = ["--inbox", *map(str, files), "--blocked", "not here", "--remedy", "go there"]
        return run(self.arguments(*more, **row))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    with lab_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder / "device.pem", folder / "device.pub")
    return folder / "device.pem", folder / "device.pub"


@pytest.fixture
def bench(pipeline: Checkout, server: LabServer, keys: tuple[Path, Path], tmp_path: Path) -> Bench:
    return Bench(pipeline, tmp_path, server, *keys)


@pytest.fixture(scope="module")
def copy(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished pipeline again, for a test that runs jobs in it."""
    folder = tmp_path_factory.mktemp("copy") / "phiforge"
    shutil.copytree(pipeline.folder, folder, symlinks=True)
    return Checkout(folder, pipeline.environment)


def test_a_lab_host_validates_through_the_pipeline(copy: Checkout, bench: Bench) -> None:
    rows = bench.rows(runner="ssh", ssh=bench.host())
    options = [CHECK, "--config", f"device_files={rows}"]
    copy.snakemake("--cores", "2", *options)
    told = read_signed(copy.folder / CHECK, [read_public(bench.public)])
    assert (told["verdict"], told["kind"], told["runner"]) == ("passed", "device", "ssh")
    assert told["signer"]["occasional"] is False
    assert told["executed_on"]["device"] == "CPU"
    assert copy.planned(*options) == set()


def test_a_cut_transfer_goes_on_and_nothing_is_sent_twice(bench: Bench) -> None:
    payload = bench.checkout.folder / "artifacts/build/phi3-tiny" / VARIANT / "payload"
    assert sum(path.stat().st_size for path in payload.iterdir()) > 9_000_000
    with CuttingProxy(bench.server.port, cut_after=6_000_000) as proxy:
        line = bench.fails("connection was cut while sending payload/", port=proxy.port)
        assert "run again; what came over is kept there" in line
        proxy.cut_after, proxy.sent = None, 0
        bench.passes(port=proxy.port)
        assert 1_000_000 < proxy.sent < 8_000_000
        proxy.sent = 0
        bench.receipt.unlink()
        assert "sent 0 of" in bench.passes(port=proxy.port)
        assert proxy.sent < 200_000


def test_another_host_key_is_refused(bench: Bench, tmp_path: Path) -> None:
    other = new_ssh_key(tmp_path / "other").with_suffix(".pub").read_text()
    line = bench.fails("the lab host has another key than the row pins", host_key=other.strip())
    assert " ".join(other.split()[:2]) in line


def test_a_key_that_the_host_does_not_take(bench: Bench, tmp_path: Path) -> None:
    other = new_ssh_key(tmp_path / "other")
    bench.fails(f"does not take the key {other}", identity=str(other))


def test_nobody_listens(bench: Bench) -> None:
    bench.fails("the lab host does not answer", port=free_port())


def test_python_is_missing_or_another(bench: Bench, tmp_path: Path) -> None:
    bench.fails("'/nowhere/python3.11' does not start there", python="/nowhere/python3.11")
    old = tmp_path / "python3.9"
    old.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c "
        "'import sys; sys.version_info = (3, 9, 0); exec(sys.stdin.read())'\n"
    )
    old.chmod(0o755)
    bench.fails("is another Python; expected 3.11, found 3.9", python=str(old))


def test_a_full_disk_there_is_told_before_anything_is_sent(bench: Bench) -> None:
    lab = bench.folder / "lab"
    lab.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(lab)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip("needs the right to mount a tmpfs (root)")
    try:
        bench.fails("not enough room on the lab host's disk")
        assert not [*lab.glob("store/*")]
        subprocess.run(["mount", "-o", "remount,size=300m", str(lab)], check=True)
        bench.passes()
    finally:
        subprocess.run(["umount", str(lab)], check=True)


def far_process(bench: Bench, module: str) -> psutil.Process:
    """The process that runs ``module`` for this bench's host, as soon as there is one."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for process in psutil.process_iter():
            if module in told(process) and within(process, bench.folder / "lab/jobs"):
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


def start(bench: Bench, **ssh: Any) -> "subprocess.Popen[str]":
    command = bench.arguments(runner="ssh", ssh=bench.host(**ssh))
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_runtime_is_a_verdict_and_a_killed_check_is_not(bench: Bench) -> None:
    running = start(bench)
    far_process(bench, "validators.worker").send_signal(signal.SIGKILL)
    out, err = running.communicate()
    assert running.returncode == 0, out + err
    receipt = read_signed(bench.receipt, [read_public(bench.public)])
    assert [one["name"] for one in receipt["failures"]] == ["runtime-crashed"]
    bench.receipt.unlink()
    envelope_path(bench.receipt).unlink()

    running = start(bench)
    far_process(bench, "validators.worker")
    far_process(bench, "validators.check").send_signal(signal.SIGKILL)
    _, err = running.communicate()
    assert running.returncode == 1 and "the check there ended with SIGKILL" in err
    assert not bench.receipt.exists()
    bench.passes()


def test_a_client_that_dies_leaves_no_check_behind(bench: Bench) -> None:
    """And a second job waits as long as the first has the device."""
    first = start(bench, heartbeat_s=2)
    worker = far_process(bench, "validators.worker")
    worker.suspend()  # a long check
    second = start(bench)
    assert second.stdout is not None
    while "another job uses the CPU of this host; waiting for it" not in second.stdout.readline():
        assert second.poll() is None
    assert worker.is_running()
    first.kill()
    first.communicate()
    out, err = second.communicate()
    assert second.returncode == 0 and "cpu: passed" in out, out + err
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def carried(
    copy: Checkout, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The rows that a courier serves, and the receipt that a kit of theirs gave.

    The kit runs in the environment that it makes from its lock, with a bare Python.
    """
    private, public = keys
    folder = tmp_path_factory.mktemp("courier")
    rows = folder / "devices.yaml"
    block = {**ROWS["cpu"], "key": str(public), "runner": "courier"}
    rows.write_text(yaml.safe_dump({"cpu": block}), encoding="utf-8")
    kit = f"artifacts/kits/phi3-tiny/{VARIANT}/cpu.zip"
    copy.snakemake("--cores", "2", kit, "--config", f"device_files={rows}", "kit_payload=false")
    subprocess.run(["unzip", "-q", str(copy.folder / kit), "-d", str(folder)], check=True)
    release = copy.folder / "artifacts/release/phi3-tiny" / VARIANT
    ran = subprocess.run(
        [folder / "run.sh", release],
        env={
            **os.environ,
            "PYTHON": getattr(sys, "_base_executable", sys.executable),
            "PHIFORGE_LAB": str(folder / "lab"),
            "PHIFORGE_RUNNER_KEY": str(private),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if "pip failed" in ran.stderr:
        pytest.skip("needs a package index that has the wheels of envs/device-openvino.lock")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert (folder / "lab/envs").is_dir(), "the bare Python had all the packages"
    return rows, folder / f"phi3-tiny.{VARIANT}.cpu.receipt.zip"


def test_a_courier_validates_through_the_pipeline(
    copy: Checkout, carried: tuple[Path, Path], keys: tuple[Path, Path]
) -> None:
    rows, result = carried
    options = [CHECK, "--config", f"device_files={rows}"]
    copy.snakemake("--cores", "2", *options)
    before = read_record(copy.folder / CHECK)
    assert before["verdict"] == "blocked" and "no receipt came back yet" in before["reason"]
    assert "artifacts/inbox/" in before["remedy"]

    inbox = copy.folder / "artifacts/inbox"
    inbox.mkdir()
    shutil.copy(result, inbox / "from the stick.zip")
    assert copy.planned(*options) == {f"check phi3-tiny {VARIANT} on cpu"}
    copy.snakemake("--cores", "2", *options)
    told = read_signed(copy.folder / CHECK, [read_public(keys[1])])
    assert (told["verdict"], told["kind"], told["runner"]) == ("passed", "device", "courier")
    assert copy.planned(*options) == set()


def repacked(result: Path, into: Path, edit: Callable[[bytes], bytes]) -> Path:
    """A courier's result whose receipt somebody edited."""
    with zipfile.ZipFile(result) as old, zipfile.ZipFile(into, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            new.writestr(name, edit(data) if name == "cpu.json" else data)
    return into


def test_what_an_inbox_refuses(bench: Bench, carried: tuple[Path, Path], tmp_path: Path) -> None:
    _, result = carried
    edited = repacked(
        result, tmp_path / "edited.zip", lambda data: data.replace(b'"mean_kl": ', b'"mean_kl": 1')
    )
    new_key(tmp_path / "other.pem", tmp_path / "other.pub")
    bare = repacked(result, tmp_path / "bare.json", lambda data: data)
    with zipfile.ZipFile(result) as archive:
        bare.write_bytes(archive.read("cpu.json"))
    for done, expected in (
        (bench.inbox(edited), "the receipt was edited"),
        (bench.inbox(result, key=str(tmp_path / "other.pub")), "signed by an unknown key"),
        (bench.inbox(bare), "nobody signed this receipt"),
        (bench.inbox(tmp_path / "other.pub.zip"), "No such file"),
    ):
        assert done.returncode == 1 and expected in done.stderr, done.stdout + done.stderr
        assert len(done.stderr.splitlines()) == 1 and not bench.receipt.exists()


def test_a_stale_receipt_is_ignored_with_a_note(
    bench: Bench, carried: tuple[Path, Path], tmp_path: Path
) -> None:
    gates = tmp_path / "acceptance.yaml"
    gates.write_text((ROOT / "config/acceptance.yaml").read_text() + "\n# edited since\n")
    more = ["--inbox", str(carried[1]), "--blocked", "not here", "--acceptance", str(gates)]
    done = run(bench.arguments(*more, runner="courier"))
    assert done.returncode == 0, done.stderr
    receipt = read_record(bench.receipt)
    assert receipt["verdict"] == "blocked"
    assert "is ignored: the receipt is stale, it is about other gates" in receipt["reason"]


def test_a_kit_has_the_same_bytes_every_time(bench: Bench, tmp_path: Path) -> None:
    made = []
    for name in ("one.zip", "two.zip"):
        command = bench.arguments(runner="courier")
        command[3:6] = ["kit", "--into", str(tmp_path / name)]
        assert run(command).returncode == 0
        made.append((tmp_path / name).read_bytes())
        time.sleep(1.1)
    assert made[0] == made[1]
