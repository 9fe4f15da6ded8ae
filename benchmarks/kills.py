"""Kill what rules run at each of their writes, run it again, and count what was not as it must be.

    python benchmarks/kills.py

The writes of release, promotion, revocation, publication (to a folder and to a Hub on loopback),
retention, fetch, the inbox and a lab host's store: tests/support/kill_scenarios.py. A sample of
the same is in tests/test_kills.py. The result goes to kills.json beside this file.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from machine import facts
from support.kill_scenarios import SCENARIOS


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    outcomes: dict[str, Any] = {}
    for name in SCENARIOS:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "support.kill_scenarios", name],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:2])},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        outcome = json.loads(done.stdout)
        outcomes[name] = {**outcome, "seconds": round(time.monotonic() - started)}
        print(f"{name}: {outcome['writes']} writes, {outcome['kills']} kills", flush=True)
        for fault in outcome["faults"]:
            print(f"  {fault}", flush=True)
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "writes": sum(one["writes"] for one in outcomes.values()),
        "kills": sum(one["kills"] for one in outcomes.values()),
        "faults": sum(len(one["faults"]) for one in outcomes.values()),
        "scenarios": outcomes,
    }
    into = Path(__file__).with_name("kills.json")
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(f"{result['kills']} kills at {result['writes']} writes, {result['faults']} faults")


if __name__ == "__main__":
    main()
