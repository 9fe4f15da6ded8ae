"""A full disk while a release is laid out. Kills are in tests/test_kills.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.checkout import Checkout
from support.releasing import SIGNED_VARIANT, stage
from support.small_disk import give_room, small_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB for releases."""
    with small_disk(tmp_path / "disk", 3) as folder:
        yield folder


def test_a_full_disk_leaves_no_release_and_the_next_run_completes(
    pipeline: Checkout, disk: Path
) -> None:
    folder = disk / "phi3-tiny" / SIGNED_VARIANT
    done = stage(pipeline, SIGNED_VARIANT, folder, check=False)
    assert done.returncode == 1
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
    assert not folder.exists()
    assert not list(folder.parent.glob(".*.partial"))
    give_room(disk)
    stage(pipeline, SIGNED_VARIANT, folder)
    found = verify(folder, Trust())
    assert not found.refused, found.findings
