"""Search the placement of Phi-3-mini's exact shape, killed once in the middle, and record it.

    python benchmarks/full_size/make_model.py --into /big/disk/full
    python benchmarks/placement.py --model /big/disk/full/model.yaml [--kill-after 16]

Runs `snakemake placement` as a user would and kills every process of it without a warning when the
search, which goes from the last layer to the first, has come to the middle; the second run goes on
there. The weights are random, so the placement says nothing: time, memory and the search's end are
what is measured. The result goes to placement.json beside this file.
"""

import argparse
import csv
import datetime
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import yaml

from machine import facts

ROOT = Path(__file__).parents[1]
_LAYER = re.compile(r"^layer (\d+) of (\d+): [\d.]+ s$", re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="the model's YAML file")
    parser.add_argument(
        "--kill-after",
        type=int,
        default=16,
        help="the last layer of run one; a search goes from the last to 1",
    )
    arguments = parser.parse_args()
    model = yaml.safe_load(arguments.model.read_text())
    name = model["name"]
    config = ["--config", f"model_files={arguments.model}", f"models={name}"]
    snakemake = [str(Path(sys.executable).parent / "snakemake"), "--cores", "2"]
    subprocess.run(
        [*snakemake, f"artifacts/source/{name}/SOURCE.json", *config], cwd=ROOT, check=True
    )
    first = killed([*snakemake, "placement", *config], name, arguments.kill_after)
    subprocess.run([*snakemake, "--unlock", "placement", *config], cwd=ROOT, check=True)
    started = time.monotonic()
    subprocess.run([*snakemake, "placement", *config], cwd=ROOT, check=True)
    second = time.monotonic() - started
    again = layers(name)
    placement = yaml.safe_load((arguments.model.parent / model["placement"]).read_text())
    matrices = placement["matrices"].values()
    chosen = {
        str(bits): dict(Counter(one["forms"][place] for one in matrices))
        for place, bits in enumerate(placement["bits"])
    }
    with (ROOT / f"artifacts/benchmarks/place/{name}.tsv").open(encoding="utf-8") as stream:
        row = next(csv.DictReader(stream, delimiter="\t"))
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": name,
        "machine": facts(),
        "positions": placement["positions"],
        "killed": {
            "wall_s": round(first, 1),
            "last_layer": arguments.kill_after,
        },
        "resumed": {
            "wall_s": round(second, 1),
            "first_layer": again[0][0],
            "cpu_s": float(row["cpu_time"]),
            "peak_resident_mb": float(row["max_rss"]),
        },
        "layers": again[-1][1],
        "matrices": len(matrices),
        "chosen": chosen,
        "wall_s": round(first + second, 1),
    }
    Path(__file__).with_suffix(".json").write_text(
        json.dumps(result, indent=2, sort_keys=True) + "\n"
    )
    print(f"{result['wall_s'] / 3600:.2f} hours; resumed at layer {again[0][0]}")


def killed(command: list[str], name: str, last: int) -> float:
    """Run a search and kill all of it after its layer ``last``; return its seconds."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    while process.poll() is None:
        time.sleep(1)
        if any(number == last for number, *_ in layers(name)):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return time.monotonic() - started
    sys.exit(f"the search ended before layer {last} was done")


def layers(name: str) -> list[tuple[int, int]]:
    """Return what the search's log says is done: number, and of how many."""
    log = ROOT / f"artifacts/logs/place/{name}.log"
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    return [(int(number), int(count)) for number, count in _LAYER.findall(text)]


if __name__ == "__main__":
    main()
