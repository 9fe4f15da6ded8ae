"""Two processes want one device: the second waits, also for one that is killed."""

import subprocess
import sys
import time
from pathlib import Path

HOLD = """
import sys, time
from pathlib import Path
from phiforge.remote.check import device_lock
with device_lock("NPU", Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def hold(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_second_waits_and_a_killed_first_frees_the_device(tmp_path: Path) -> None:
    first = hold(tmp_path, 60)
    assert said(first) == "held"
    second = hold(tmp_path, 0)
    assert said(second) == "another job uses the NPU of this machine; waiting for it"
    time.sleep(0.5)
    assert second.poll() is None
    first.kill()
    first.wait()
    assert said(second) == "held"
    assert second.wait(timeout=10) == 0
