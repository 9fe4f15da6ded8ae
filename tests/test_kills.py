"""A kill at any write, and the same command again: whole before, complete after, nothing left over.

A sample of what `benchmarks/kills.py` does at every write.
"""

import json
import os
import subprocess
import sys

import pytest

from support.checkout import ROOT
from support.kill_scenarios import SCENARIOS

SAMPLE = 6


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_a_kill_cuts_off_the_next_run_completes(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "support.kill_scenarios", name, str(SAMPLE)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert outcome["faults"] == []
    assert outcome["kills"] >= SAMPLE - 2  # a file may be too small to be cut
    assert len(outcome["stood"]) >= 1
