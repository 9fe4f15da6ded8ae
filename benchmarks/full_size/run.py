"""Convert and check Phi-3-mini's exact shape, and record time and memory of every job.

    python benchmarks/full_size/make_model.py --into /big/disk/full
    python benchmarks/full_size/run.py --model /big/disk/full/model.yaml [--variants a,b]
        [--builds-only]

Runs `snakemake` as a user would, on random weights; what each job took comes from Snakemake's own
`benchmark:` files, and a conversion's peak resident memory (with mapped files) from its own log,
because the samples in those files are seconds apart. The result is written beside this file.
"""

import argparse
import csv
import datetime
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import facts

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's YAML file")
    parser.add_argument("--variants", default="", help="only these, comma-separated")
    parser.add_argument("--builds-only", action="store_true", help="convert, but do not check")
    arguments = parser.parse_args()
    model = yaml.safe_load(arguments.model.read_text())
    variants = list(yaml.safe_load((ROOT / "config/variants.yaml").read_text()))
    chosen = arguments.variants.split(",") if arguments.variants else variants
    builds = [f"artifacts/build/{model['name']}/{variant}/BUILD.json" for variant in chosen]
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "4"]
    command += builds if arguments.builds_only else ["all"]
    command += ["--config", f"model_files={arguments.model}", f"models={model['name']}"]
    command += [f"variants={arguments.variants}"] if arguments.variants else []
    start = time.monotonic()
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": model["name"],
        "parameters": model["parameters"],
        "machine": facts(),
        "exit_code": code,
        "wall_s": round(time.monotonic() - start, 1),
        "jobs": jobs(model["name"]),
        "receipts": receipts(model["name"]),
    }
    path = Path(__file__).parent / f"{model['name']}.json"
    path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(path.relative_to(ROOT))
    sys.exit(code)


def jobs(model: str) -> list[dict[str, Any]]:
    """One entry a job: what it was, seconds, peak resident memory in MB where it is known."""
    found = []
    for path in sorted((ROOT / "artifacts/benchmarks").glob(f"*/{model}*.tsv")):
        with path.open(encoding="utf-8") as stream:
            row = next(csv.DictReader(stream, delimiter="\t"))
        found.append(
            {
                "job": f"{path.parent.name} {path.stem.removeprefix(model).lstrip('.')}".strip(),
                "wall_s": float(row["s"]),
                "peak_resident_mb": peak_resident_mb(path),
                "cpu_s": float(row["cpu_time"]),
            }
        )
    return found


def peak_resident_mb(benchmark: Path) -> int | None:
    log = ROOT / "artifacts/logs" / benchmark.parent.name / f"{benchmark.stem}.log"
    found = re.search(r"peak resident memory.*: (\d+) MB", log.read_text(encoding="utf-8"))
    return int(found[1]) if found else None


def receipts(model: str) -> list[dict[str, Any]]:
    """Verdict and metrics of every row that could run."""
    found = []
    for path in sorted((ROOT / "artifacts/checks" / model).glob("*/*.json")):
        receipt = json.loads(path.read_text())
        if receipt["verdict"] != "blocked":
            found.append(
                {key: receipt[key] for key in ("variant", "device", "verdict", "reason", "metrics")}
            )
    return found


if __name__ == "__main__":
    main()
