"""A kit on a device: unpacked, run by its own script, refused where something is wrong."""

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from phiforge.remote.courier import write_kit
from phiforge.remote.kit import Kit
from support.lab_bench import small_kit

RECEIPT = (
    "import os, pathlib\n"
    "pathlib.Path('../out/cpu.json').write_text(os.environ['PHIFORGE_RUNNER_KEY'])\n"
    "pathlib.Path('../out/model.bin').touch()\n"
)


@dataclass(frozen=True)
class Device:
    """A folder of somebody's, with an unpacked kit and a key."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def unpack(self, kit: Kit, *, payload: bool = True) -> None:
        write_kit(kit, self.folder / "kit.zip", payload=payload)
        with zipfile.ZipFile(self.folder / "kit.zip") as archive:
            archive.extractall(self.folder / "kit")
        (self.folder / "device.pem").touch()

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the kit from the folder beside it, as a person does."""
        own = {
            "PYTHON": sys.executable,
            "PHIFORGE_LAB": "lab",
            "PHIFORGE_RUNNER_KEY": "device.pem",
            **environment,
        }
        return subprocess.run(
            ["sh", "kit/run.sh", *arguments],
            cwd=self.folder, env={**os.environ, **own}, capture_output=True, text=True, check=False,
        )  # fmt: skip


@pytest.fixture
def device(tmp_path: Path) -> Device:
    (tmp_path / "device").mkdir()
    return Device(tmp_path / "device")


def test_paths_are_relative_to_where_the_person_is(device: Device, tmp_path: Path) -> None:
    device.unpack(small_kit(tmp_path / "files", RECEIPT, b"weights"), payload=False)
    refused = device.run()
    assert refused.returncode == 1
    assert "payload/weights is missing; give the release folder as argument" in refused.stderr
    (device.folder / "release").mkdir()
    (device.folder / "release/weights").write_bytes(b"weights")
    done = device.run("release")
    assert done.returncode == 0 and "carry job.receipt.zip back" in done.stdout, done.stderr
    with zipfile.ZipFile(device.folder / "kit/job.receipt.zip") as archive:
        assert archive.namelist() == ["cpu.json"]
        assert archive.read("cpu.json").decode() == str(device.folder / "device.pem")
    assert (device.folder / "lab/devices/CPU.lock").is_file()


@pytest.mark.parametrize(
    ("file", "text", "environment", "message"),
    [
        ("code/job.py", "other", {}, "code/job.py is not the file that was packed"),
        ("code/job.py", None, {"PHIFORGE_RUNNER_KEY": ""}, "set PHIFORGE_RUNNER_KEY"),
        ("JOB.json", '{"python": "3.9"}', {}, "the kit needs 3.9"),
    ],
)
def test_a_kit_that_cannot_be_run_says_why(
    device: Device,
    tmp_path: Path,
    file: str,
    text: str | None,
    environment: dict[str, str],
    message: str,
) -> None:
    device.unpack(small_kit(tmp_path / "files", RECEIPT))
    if text is not None:
        (device.folder / "kit" / file).write_text(text)
    done = device.run(**environment)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: ") and message in line


def test_a_check_that_fails_leaves_nothing_to_carry_back(device: Device, tmp_path: Path) -> None:
    device.unpack(small_kit(tmp_path / "files", "raise SystemExit(3)"))
    done = device.run()
    assert done.returncode == 1 and "the check ended with 3" in done.stderr
    assert not list((device.folder / "kit").glob("*.receipt.zip"))


def test_a_kit_has_the_same_bytes_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kits = []
    for clock in (1_000_000_000, 2_000_000_000):
        kit = small_kit(tmp_path / "files", RECEIPT, b"weights")
        for file in kit.files:
            os.utime(file.source, (clock, clock))
        monkeypatch.setattr("time.time", lambda clock=clock: clock)
        write_kit(kit, tmp_path / "kit.zip", payload=True)
        kits.append((tmp_path / "kit.zip").read_bytes())
    assert kits[0] == kits[1]
