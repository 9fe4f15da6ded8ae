"""Build Phi-3-mini's exact shape twice, as `snakemake reproduce` does, and record the verdicts.

    python benchmarks/full_size/reproduce.py --model /big/disk/full/model.yaml --variants a,b

The second build has another folder, home, locale, time zone, hash seed, number of threads and
instruction set (phiforge/reproduce/rebuild.py). The result goes to reproduced-<model>.json beside
this file. Needs twice the disk of the variants.
"""

import argparse
import datetime
import json
import subprocess
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import facts

ROOT = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the model's YAML file")
    parser.add_argument("--variants", required=True, help="comma-separated")
    arguments = parser.parse_args()
    name = yaml.safe_load(arguments.model.read_text())["name"]
    variants = arguments.variants.split(",")
    records = [f"artifacts/reproduced/{name}/{variant}.json" for variant in variants]
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "4", *records]
    command += ["--config", f"model_files={arguments.model}", f"models={name}"]
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    found = [json.loads((ROOT / record).read_text()) for record in records]
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "records": found,
    }
    into = Path(__file__).with_name(f"reproduced-{name}.json")
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    for record in found:
        print(f"{record['variant']}: {record['verdict']}")
    sys.exit(code or any(record["verdict"] != "identical" for record in found))


if __name__ == "__main__":
    main()
