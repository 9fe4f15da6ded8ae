"""Kills and full disks while the pipeline works: nothing half-done, and the next run completes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkout import DIRECTML, Checkout
from support.small_disk import give_room, small_disk

VARIANTS = ("genai-cpu-int4", "genai-dml-fp16")  # soon built, and soon checked
OPTIONS = ["--cores", "2", "all", "--config", f"variants={','.join(VARIANTS)}"]


@pytest.fixture
def checkout(pipeline: Checkout, tmp_path: Path) -> Checkout:
    """A checkout that has the source and the reference, and nothing that comes after them."""
    folder = tmp_path / "phiforge"
    shutil.copytree(pipeline.folder, folder, symlinks=True)
    for path in (folder / "artifacts").iterdir():
        if path.is_dir() and path.name not in {"source", "reference"}:
            shutil.rmtree(path)
    (folder / DIRECTML.name).unlink(missing_ok=True)  # a check there takes a minute more
    return Checkout(folder)


def scratch_folders(checkout: Checkout) -> list[Path]:
    return list((checkout.folder / "artifacts").rglob(".*.partial"))


def finished_but_unsealed(checkout: Checkout) -> list[Path]:
    """Payloads or releases in their places that lack what is written last."""
    artifacts = checkout.folder / "artifacts"
    payloads = [*artifacts.glob("build/*/*/payload"), *artifacts.glob("release/*/*")]
    folders = [p for p in payloads if p.is_dir() and any(p.iterdir())]
    return [p for p in folders if not (p / "SHA256SUMS").is_file()]


def test_a_killed_run_leaves_nothing_half_done_and_the_next_completes(checkout: Checkout) -> None:
    running = subprocess.Popen(
        [str(Path(sys.executable).parent / "snakemake"), *OPTIONS],
        cwd=checkout.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not scratch_folders(checkout):
        assert time.monotonic() < deadline and running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    assert finished_but_unsealed(checkout) == []
    assert not list((checkout.folder / "artifacts").glob("release/*/*/MANIFEST.json"))

    checkout.snakemake("--unlock")
    checkout.snakemake(*OPTIONS)
    for variant in VARIANTS:
        release = checkout.folder / "artifacts/release/phi3-tiny" / variant
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=release, check=True)
    assert scratch_folders(checkout) == []


@pytest.fixture
def disk(checkout: Checkout) -> Iterator[Path]:
    """A file system of 30 MB where the builds go: room for one."""
    with small_disk(checkout.folder / "artifacts/build", 30) as folder:
        yield folder


def test_a_full_disk_is_named_and_the_next_run_completes(checkout: Checkout, disk: Path) -> None:
    builds = [
        f"artifacts/build/phi3-tiny/{variant}/BUILD.json"
        for variant in ("openvino-fp16", "genai-dml-fp16")
    ]
    done = checkout.snakemake("--cores", "2", *builds, check=False)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "No space left on device" in output or "disk" in output.lower()
    assert "Traceback" not in output
    assert finished_but_unsealed(checkout) == []
    assert scratch_folders(checkout) == []

    give_room(disk)
    checkout.snakemake("--cores", "2", "all", *builds, "--config", "variants=genai-dml-fp16")
    assert all((checkout.folder / build).is_file() for build in builds)
    assert checkout.release("genai-dml-fp16/MANIFEST.json").is_file()
