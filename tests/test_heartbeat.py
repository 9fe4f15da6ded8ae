"""Long work leaves a line a minute, in a real process whose output goes to a log."""

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

PROGRAM = """
import subprocess, sys, time
from phiforge.heartbeat import heartbeat
with heartbeat("convert", 0.2):
    held = bytearray(200_000_000)
    time.sleep(1)
print("done")
time.sleep(0.5)
"""


def test_work_says_that_it_goes_on_until_it_ends() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    *beats, last = done.stdout.splitlines()
    assert last == "done" and len(beats) >= 2
    for line in beats:
        told = re.fullmatch(r"convert: at work for 0 min, (\d\.\d) GB resident", line)
        assert told is not None
    assert told is not None and float(told[1]) >= 0.2


@pytest.mark.parametrize(("background", "shown"), [("", True), ("& wait", False)])
def test_a_person_at_the_terminal_sees_it_though_it_goes_to_a_log(
    tmp_path: Path, background: str, shown: bool
) -> None:
    """In the foreground only, as a shell with job control has it."""
    log = tmp_path / "log"
    (tmp_path / "work.py").write_text(PROGRAM)
    shell = f"{sys.executable} {tmp_path}/work.py > {log} 2>&1 {background}"
    child, terminal = pty.fork()
    if child == 0:
        os.execvp("bash", ["bash", "-c", f"set -m; {shell}"])
    told = b""
    with suppress(OSError):  # at its end
        while block := os.read(terminal, 4096):
            told += block
    os.waitpid(child, 0)
    os.close(terminal)
    assert log.read_text().count("convert: at work for 0 min") >= 2
    assert (told.count(b"convert: at work for 0 min") >= 2) is shown, told


def test_only_the_long_commands_wait_for_psutil() -> None:
    program = "import sys; from argparse import Namespace; from pathlib import Path; "
    program += "from phiforge.cli import _progress; "
    program += "_progress(Namespace(command={!r}, job=Path('m.v.json'))); "
    program += "print('psutil' in sys.modules)"
    for name, imported in (("release", "False"), ("convert", "True")):
        code = program.format(name)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == imported
