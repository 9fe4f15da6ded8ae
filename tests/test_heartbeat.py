"""Long work leaves a line a minute, in a real process whose output goes to a log."""

import re
import subprocess
import sys

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


def test_only_the_long_commands_wait_for_psutil() -> None:
    program = "import sys; from phiforge.cli import _progress; _progress({!r}); "
    program += "print('psutil' in sys.modules)"
    for name, imported in (("gate", "False"), ("convert", "True")):
        code = program.format(name)
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == imported
