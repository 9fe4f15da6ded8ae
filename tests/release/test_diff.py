"""`release diff` on real releases: what changed is listed, what got worse ends the build."""

from pathlib import Path
from typing import Any

import pytest

from support.checkout import Checkout
from support.jobs import command
from support.release_edits import Edit, edit, remove, updated
from support.releasing import copy_release

RECEIPT = "evidence/receipts/cpu.json"


@pytest.fixture
def old(pipeline: Checkout) -> Path:
    return pipeline.release("openvino-int4")


@pytest.fixture
def new(old: Path, tmp_path: Path) -> Path:
    """A copy of the release, to be changed."""
    return copy_release(old, tmp_path / "new")


def diff(pipeline: Checkout, old: Path, new: Path, *more: object) -> tuple[int, str]:
    done = pipeline.run(*command("diff", old, new, *more), check=False, COLUMNS="200")
    return done.returncode, done.stdout + done.stderr


def test_a_release_does_not_differ_from_itself(pipeline: Checkout, old: Path, new: Path) -> None:
    assert diff(pipeline, old, new) == (0, "nothing changed\n")


def test_a_new_toolchain_is_listed_and_is_no_regression(
    pipeline: Checkout, old: Path, new: Path, tmp_path: Path
) -> None:
    updated("MANIFEST.json", "toolchain", nncf="99.0.0")(new)
    code, output = diff(pipeline, old, new, "--markdown", tmp_path / "notes.md")
    assert code == 0
    assert "99.0.0" in output
    assert "| toolchain | nncf |" in (tmp_path / "notes.md").read_text()


def farther(release: Path) -> None:
    def change(receipt: Any) -> None:
        receipt["metrics"]["mean_kl"] *= 1.5

    edit(release / RECEIPT, change)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (farther, "the new release is worse: fidelity cpu mean_kl: +50.0 %"),
        (remove(RECEIPT), "receipts cpu: no longer passed"),
    ],
)
def test_what_got_worse_is_a_regression(
    pipeline: Checkout, old: Path, new: Path, change: Edit, line: str
) -> None:
    change(new)
    code, output = diff(pipeline, old, new)
    assert code == 1
    assert line in output


def test_figures_of_other_positions_are_not_compared(
    pipeline: Checkout, old: Path, new: Path
) -> None:
    farther(new)
    updated(RECEIPT, golden_sha256="0" * 64)(new)
    code, output = diff(pipeline, old, new)
    assert code == 0
    assert "cpu scored on" in output and "mean_kl" not in output


def test_another_variant_cannot_be_compared(pipeline: Checkout, old: Path) -> None:
    code, output = diff(pipeline, old, pipeline.release("openvino-int8"))
    assert code == 1
    assert "expected openvino-int4, found openvino-int8" in " ".join(output.split())
    assert "Traceback" not in output
