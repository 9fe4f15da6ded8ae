"""What `snakemake -n all` costs with many models, in CPU seconds and memory.

    python benchmarks/planning.py [MODELS]

Plans `all` of this checkout for one outside model and for MODELS (200) of them, each with a file of
its own in one folder; nothing is built.
The result goes to planning.json beside this file.
"""

import argparse
import datetime
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from machine import facts

ROOT = Path(__file__).parents[1]
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="?", type=int, default=200, help="how many models")
    counts = sorted({1, parser.parse_args().models})
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "plans": [planned(count) for count in counts],
    }
    into = Path(__file__).with_name("planning.json")
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2))


def planned(count: int) -> dict[str, Any]:
    """Plan ``all`` for ``count`` models that are not in this checkout."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            write_model(Path(folder), f"model-{number}")
        chosen = [f"model_files={folder}", "models=model-*"]
        command = [SNAKEMAKE, "-n", "all", "--config", *chosen]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    table = (done.stdout + done.stderr).split("Job stats:")[1]
    jobs = next(line.split()[1] for line in table.splitlines() if line.startswith("total"))
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "models": count,
        "jobs": int(jobs),
        "cpu_s": round(cpu_s, 2),
        "memory_mb": after.ru_maxrss * 1024 // 1_000_000,
    }


def write_model(folder: Path, name: str) -> None:
    """Write a model file like phi3-tiny's, with the same source."""
    tiny = ROOT / "models/phi3-tiny"
    document = yaml.safe_load((ROOT / "config/models/phi3-tiny.yaml").read_text("utf-8"))
    del document["calibration"], document["placement"]  # which is of phi3-tiny alone
    document |= {"name": name, "golden": str(tiny / "golden.yaml")}
    document["source"]["path"] = str(tiny)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


if __name__ == "__main__":
    main()
