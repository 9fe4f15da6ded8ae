"""`release diff` on real releases: what changed is told, what got worse ends the build."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from support.checkout import Checkout

VARIANT = "openvino-int4"


@pytest.fixture
def releases(pipeline: Checkout, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of one release, the second to be changed."""
    source = pipeline.folder / "artifacts/release/phi3-tiny" / VARIANT
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        shutil.copytree(source, folder)
    return old, new


def edit(path: Path, **changes: Any) -> None:
    path.chmod(0o644)
    record = json.loads(path.read_text())
    for name, value in changes.items():
        *parents, last = name.split("__")
        inner = record
        for key in parents:
            inner = inner[key]
        inner[last] = value
    path.write_text(json.dumps(record))


def diff(pipeline: Checkout, old: Path, new: Path, *more: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "phiforge", "diff", str(old), str(new), *more]
    done = pipeline.run(*command, check=False, COLUMNS="200")
    return done.returncode, done.stdout + done.stderr


def test_a_release_does_not_differ_from_itself(
    pipeline: Checkout, releases: tuple[Path, Path]
) -> None:
    assert diff(pipeline, *releases) == (0, "nothing changed\n")


def test_a_new_toolchain_is_told_and_is_no_regression(
    pipeline: Checkout, releases: tuple[Path, Path], tmp_path: Path
) -> None:
    old, new = releases
    edit(new / "MANIFEST.json", toolchain__nncf="99.0.0")
    notes = tmp_path / "notes.md"
    code, output = diff(pipeline, old, new, "--markdown", str(notes))
    assert code == 0
    assert "99.0.0" in output
    assert "| toolchain | nncf |" in notes.read_text()


def test_farther_from_the_reference_is_a_regression(
    pipeline: Checkout, releases: tuple[Path, Path]
) -> None:
    old, new = releases
    receipt = new / "evidence/receipts/cpu.json"
    edit(receipt, metrics__mean_kl=1.5 * json.loads(receipt.read_text())["metrics"]["mean_kl"])
    code, output = diff(pipeline, old, new)
    assert code == 1
    assert "the new release is worse: fidelity cpu mean_kl: +50.0 %" in output


def test_a_row_that_no_longer_passes_is_a_regression(
    pipeline: Checkout, releases: tuple[Path, Path]
) -> None:
    old, new = releases
    (new / "evidence/receipts/cpu.json").unlink()
    code, output = diff(pipeline, old, new)
    assert code == 1
    assert "receipts cpu: no longer passed" in output


def test_another_variant_cannot_be_compared(
    pipeline: Checkout, releases: tuple[Path, Path]
) -> None:
    other = pipeline.folder / "artifacts/release/phi3-tiny/openvino-int8"
    code, output = diff(pipeline, releases[0], other)
    assert code == 1
    assert "expected openvino-int4, found openvino-int8" in " ".join(output.split())
    assert "Traceback" not in output
