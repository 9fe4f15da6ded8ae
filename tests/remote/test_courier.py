"""A courier: a real kit, run with a bare Python, and what an inbox takes and refuses."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from phiforge.artifact.record import read_record
from phiforge.receipts.signed_receipt import read_signed
from phiforge.trust.keys import new_key, read_public
from support.checkout import ROOT, Checkout
from support.lab_bench import VARIANT, Bench

CHECK = f"artifacts/checks/phi3-tiny/{VARIANT}/cpu.json"


@pytest.fixture(scope="module")
def carried(
    copy: Checkout, keys: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """The rows that a courier serves, and the receipt that a kit of theirs gave.

    The kit runs in the environment that it makes from its lock, with a bare Python.
    """
    private, public = keys
    folder = tmp_path_factory.mktemp("courier")
    rows = Bench(copy, folder, private, public).rows(runner="courier")
    kit = f"artifacts/kits/phi3-tiny/{VARIANT}/cpu.zip"
    copy.snakemake("--cores", "2", kit, "--config", f"device_files={rows}", "kit_payload=false")
    with zipfile.ZipFile(copy.folder / kit) as archive:
        archive.extractall(folder)
    release = copy.folder / "artifacts/release/phi3-tiny" / VARIANT
    ran = subprocess.run(
        ["sh", folder / "run.sh", release],
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
    receipt = read_signed(copy.folder / CHECK, [read_public(keys[1])])
    assert (receipt.verdict, receipt.kind, receipt.runner) == ("passed", "device", "courier")
    assert copy.planned(*options) == set()

    options = ["stable", "--config", f"device_files={rows}", f"variants={VARIANT}"]
    done = copy.snakemake("--cores", "2", *options, check=False)
    output = done.stdout + done.stderr
    assert f"phi3-tiny {VARIANT}: gpu is missing: " in output
    assert f"phi3-tiny {VARIANT}: cpu is missing" not in output


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
        (bench.inbox(edited), "is not the receipt that was signed"),
        (bench.inbox(result, key=str(tmp_path / "other.pub")), "signed by another key"),
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
    done = bench.inbox(carried[1], "--acceptance", gates)
    assert done.returncode == 0, done.stderr
    receipt = read_record(bench.receipt)
    assert receipt["verdict"] == "blocked"
    assert "is ignored: the receipt is stale, it is about other gates" in receipt["reason"]
