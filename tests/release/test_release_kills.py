"""Kills and a full disk while a release is laid out: the old one stands, or the new one, whole."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.checkout import Checkout
from support.releasing import SIGNED_VARIANT, stage, stage_command
from support.small_disk import give_room, small_disk

# Lays out one version after the other; each is first killed at one of the calls that change the
# file system, then laid out to its end. A fork of one warm process each, so that the points are
# many. Prints, for each point, what stood after the kill and after the run that followed.
DRIVER = """
import json, os, signal, sys
import jinja2
import phiforge.artifact.tree as tree
import phiforge.release.model_signature
import phiforge.release.stage
from pathlib import Path
from phiforge.cli import main
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify

arguments = sys.argv[1:]
job, into = Path(arguments[1]), Path(arguments[arguments.index("--into") + 1])
CALLS = [(os, "link"), (os, "replace"), (os, "rename"), (tree, "_exchange"), (tree, "remove_tree")]

def run(version, left):
    '''Exit status of the command; killed before the call number `left`, if there is one.'''
    job.write_text(json.dumps({**json.loads(job.read_text()), "version": version}))
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    count = 0
    def killing(function):
        def call(*given):
            nonlocal count
            count += 1
            if count == left:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given)
        return call
    for module, name in CALLS:
        setattr(module, name, killing(getattr(module, name)))
    try:
        main(arguments)
    except SystemExit as ended:
        os._exit(ended.code or 0)

def standing():
    found = verify(into, Trust())
    assert not found.refused, found.findings
    return found.version

left = 1
while True:
    version = f"0.{left + 1}.0"
    status = run(version, left)
    killed = os.WIFSIGNALED(status)
    assert killed or status == 0, status
    after = standing()
    assert run(version, 0) == 0
    scratch = [path.name for path in into.parent.glob(".*.partial")]
    print(json.dumps([version, killed, after, standing(), scratch]), flush=True)
    if not killed:
        break
    left += 1
"""


@pytest.fixture
def into(pipeline: Checkout, tmp_path: Path) -> Path:
    """A place where version 0.1.0 stands."""
    folder = tmp_path / "phi3-tiny" / SIGNED_VARIANT
    stage(pipeline, SIGNED_VARIANT, folder, version="0.1.0")
    return folder


def test_a_kill_at_any_point_leaves_a_whole_release(pipeline: Checkout, into: Path) -> None:
    command = stage_command(pipeline.folder, SIGNED_VARIANT, into)
    done = pipeline.run(sys.executable, "-c", DRIVER, *command[3:])
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    assert len(rows) >= 10
    before = "0.1.0"
    for version, killed, after, completed, scratch in rows:
        assert after in (before, version) if killed else after == version
        assert completed == version
        assert scratch == []
        before = version
    stood = [after != version for version, killed, after, *_ in rows if killed]
    assert any(stood)  # most kills came before the new one was in place


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
