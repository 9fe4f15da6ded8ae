"""Let the kernel kill a process for want of memory, in a control group of its own."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

GROUPS = Path("/sys/fs/cgroup/memory")
HOG = """
import mmap, sys
open(sys.argv[1] + "/cgroup.procs", "w").write("0")
memory = mmap.mmap(-1, 1 << 28)
for at in range(0, 1 << 28, 4096):
    memory[at] = 1
"""

needs_control_groups = pytest.mark.skipif(
    not os.access(GROUPS / "cgroup.procs", os.W_OK), reason="needs root and cgroup v1"
)


def kill_for_want_of_memory() -> None:
    own = re.search(r":memory:/(.*)", Path("/proc/self/cgroup").read_text())
    assert own is not None
    group = GROUPS / own[1] / f"phiforge-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(100 << 20))
        done = subprocess.run([sys.executable, "-c", HOG, group], check=False)
    finally:
        group.rmdir()
    assert done.returncode == -signal.SIGKILL
