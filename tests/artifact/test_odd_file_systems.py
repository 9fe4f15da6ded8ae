"""Shared file systems without exchange, shared locks, deletion of open files and fine times."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiforge.artifact.tree import files_under, fresh_tree
from phiforge.sources.local_digests import local_digests, remember, states
from support.checkout import ROOT
from support.odd_mounts import two_mounts

Mounts = tuple[Path, Path]


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    with two_mounts(tmp_path) as both:
        yield both


def write_tree(target: Path, text: str) -> None:
    with fresh_tree(target) as scratch:
        for name in ("a", "b"):
            (scratch / name).write_text(text)


def holds(target: Path) -> set[str]:
    """The different texts of a tree's files."""
    return {(target / name).read_text() for name in files_under(target)}


def others(target: Path) -> list[Path]:
    """What lies beside a tree and is no lock."""
    return [path for path in target.parent.iterdir() if path != target and path.suffix != ".lock"]


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    """Begin a Python program in a process of its own."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_an_open_reader_of_the_old_tree_does_not_stop_the_new_one(mounts: Mounts) -> None:
    target = mounts[0] / "tree"
    write_tree(target, "old")
    with (target / "a").open() as reader:
        write_tree(target, "new")
        assert holds(target) == {"new"}
        assert reader.read() == "old"
    write_tree(target, "newest")
    assert holds(target) == {"newest"}
    assert others(target) == []


def test_a_tree_that_only_a_rename_can_replace_leaves_nothing_behind(mounts: Mounts) -> None:
    target = mounts[0] / "tree"
    write_tree(target, "old")
    write_tree(target, "new")
    assert holds(target) == {"new"}
    assert others(target) == []


_HALF = """
import sys
from pathlib import Path
from phiforge.artifact.tree import fresh_tree
with fresh_tree(Path(sys.argv[1])) as scratch:
    (scratch / "a").write_text("first")
    print("half", flush=True)
    sys.stdin.readline()
    (scratch / "b").write_text("first")
"""


_KILLED = """
import os, sys
from pathlib import Path
from phiforge.artifact.tree import fresh_tree
renames = []
def kill(event, arguments):
    if event == "os.rename":
        renames.append(arguments)
        if len(renames) == 2:
            os.kill(os.getpid(), 9)
with fresh_tree(Path(sys.argv[1])):
    sys.addaudithook(kill)
"""


def test_a_kill_between_the_two_renames_loses_no_tree(mounts: Mounts) -> None:
    target = mounts[0] / "tree"
    write_tree(target, "old")
    assert start(_KILLED, target).wait() == -9
    assert not target.exists()
    with pytest.raises(RuntimeError), fresh_tree(target):
        raise RuntimeError
    assert holds(target) == {"old"}
    assert others(target) == []


def test_another_hosts_scratch_goes_when_nothing_was_written_for_a_day(tmp_path: Path) -> None:
    scratch = tmp_path / ".tree.another.host.1.partial"
    (scratch / "tree").mkdir(parents=True)
    write_tree(tmp_path / "tree", "new")
    assert others(tmp_path / "tree") == [scratch]
    for path in (scratch, scratch / "tree"):
        os.utime(path, times=(time.time() - 90_000,) * 2)
    write_tree(tmp_path / "tree", "newer")
    assert others(tmp_path / "tree") == []


def test_two_hosts_that_write_one_tree_do_not_mix(mounts: Mounts) -> None:
    with start(_HALF, mounts[0] / "tree") as first:
        assert first.stdout is not None and first.stdout.readline() == "half\n"
        write_tree(mounts[1] / "tree", "second")
        assert holds(mounts[1] / "tree") == {"second"}
        first.communicate("\n")
    assert first.returncode == 0
    assert holds(mounts[0] / "tree") == {"first"}
    assert others(mounts[0] / "tree") == []


_MANY = """
import sys
from pathlib import Path
from phiforge.artifact.record import write_record
from phiforge.artifact.tree import fresh_tree
folder, name = Path(sys.argv[1]), sys.argv[2]
for number in range(10):
    with fresh_tree(folder / "tree") as scratch:
        for file in ("a", "b"):
            (scratch / file).write_text(f"{name} {number}")
    write_record(folder / "record.json", {"by": name, "text": name * 50_000})
"""


def test_two_hosts_that_write_the_same_again_and_again_both_end_well(mounts: Mounts) -> None:
    running = [start(_MANY, mount, name) for mount, name in zip(mounts, "xyz", strict=False)]
    for one in running:
        one.communicate()
    assert [one.returncode for one in running] == [0, 0]
    assert holds(mounts[0] / "tree") in ({"x 9"}, {"y 9"})
    record = json.loads((mounts[0] / "record.json").read_text())
    assert record["text"] == record["by"] * 50_000
    assert {path.name for path in others(mounts[0] / "tree")} == {"record.json"}


def test_a_file_that_changes_twice_in_a_second_is_hashed_again(mounts: Mounts) -> None:
    folder, into = mounts[0], mounts[0] / "source"
    digest = {text: f"{text}  file\n" for text in ("0" * 64, "1" * 64)}
    (folder / "checksums").write_text(digest["0" * 64])
    into.mkdir()
    time.sleep(1 - time.time() % 1)  # a second begins
    (folder / "file").write_text("old")
    before = states(folder, ["file"])
    found = local_digests(folder, "checksums", into, keep=False)["found"]
    remember(into, {"file": {**before["file"], "sha256": found["file"]}})
    (folder / "file").write_text("new")
    assert states(folder, ["file"]) == before
    assert local_digests(folder, "checksums", into, keep=True)["found"] != found
