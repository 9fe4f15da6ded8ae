"""A folder appears whole or not at all, whoever is killed on the way."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from phiforge.artifact.tree import TreeError, files_under, fresh_tree

ROOT = Path(__file__).parents[2]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    with fresh_tree(target) as scratch:
        (scratch / "a").write_text("old")
    with pytest.raises(RuntimeError), fresh_tree(target) as scratch:
        (scratch / "a").write_text("new")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["tree"]


def test_a_success_replaces_the_whole_folder(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    for name in ("a", "b"):
        with fresh_tree(target) as scratch:
            (scratch / name).write_text(name)
    assert files_under(target) == [Path("b")]


def test_a_second_writer_is_refused_by_name(tmp_path: Path) -> None:
    with (
        fresh_tree(tmp_path / "tree"),
        pytest.raises(TreeError, match=rf"another job \(process {os.getpid()} on .+\) is writing"),
        fresh_tree(tmp_path / "tree"),
    ):
        pass


def test_a_killed_writer_leaves_the_old_tree_and_no_obstacle(tmp_path: Path) -> None:
    target = tmp_path / "tree"
    with fresh_tree(target) as scratch:
        (scratch / "a").write_text("old")
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from phiforge.artifact.tree import fresh_tree\n"
        "with fresh_tree(Path(sys.argv[1])) as scratch:\n"
        "    (scratch / 'a').write_text('half')\n    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(target)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert (target / "a").read_text() == "old"
    with fresh_tree(target) as scratch:
        assert not any(scratch.iterdir())
        (scratch / "a").write_text("new")
    assert (target / "a").read_text() == "new"


def test_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")
    with pytest.raises(TreeError, match="only regular files"):
        files_under(tmp_path)
