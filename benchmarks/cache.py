"""Let one agent make `all`, and another one take it from the cache that both share.

    python benchmarks/cache.py [--variants a,b]

Each agent is a clean checkout with an empty folder. CPU time is that of Snakemake and of every
process below it. A third agent loses the storage in the middle of its run. The result goes to
cache.json beside this file, by its variants.
"""

import argparse
import datetime
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from machine import facts
from phiforge.artifact.record import read_record
from phiforge.trust.keys import new_key
from support.checkout import Checkout, make_checkout

VARIANTS = (
    "openvino-int4-npu,openvino-int4-npu-cw,openvino-nf4-npu-cw,npu-blob-4000,genai-dml-int4,"
    "npu-library-int4"
)
FEW = "genai-dml-fp16,genai-dml-int4"  # for the run that makes everything again
RULES = ("convert", "reference", "check")
PART = "/predictions, made by "  # of a check, which the agent's own device then does


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", default=VARIANTS, help="comma-separated, or all")
    variants = parser.parse_args().variants
    with tempfile.TemporaryDirectory(prefix="phiforge-cache-") as name:
        folder = Path(name)
        new_key(folder / "agent.pem", folder / "agent.pub")
        first = run(agent(folder, "first", write=True), variants)
        second = run(agent(folder, "second"), variants)
        loses = agent(folder, "third")
        third = run(loses, FEW, meanwhile=lambda: lose(loses.folder, folder / "shelf"))
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "first": first,
        "second": second,
        "share_of_cpu": round(second["cpu_s"] / first["cpu_s"], 3),
        "same_payloads": same(first, second),
        "storage_lost": {"variants": FEW.split(","), **third, "same_payloads": same(first, third)},
    }
    into = Path(__file__).with_name("cache.json")
    runs = json.loads(into.read_text()) if into.is_file() else {}
    runs[variants] = result
    into.write_text(json.dumps(runs, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2))


def agent(folder: Path, name: str, *, write: bool = False) -> Checkout:
    """Make a checkout whose configuration shares what is on one shelf."""
    checkout = make_checkout(
        folder / name, environment={"PHIFORGE_RUNNER_KEY": str(folder / "agent.pem")}
    )
    path = checkout.folder / "config/config.yaml"
    config = yaml.safe_load(path.read_text()) | {
        "builder": f"urn:benchmark:{name}",
        "cache": {
            "storage": {"url": str(folder / "shelf")},
            "keys": [str(folder / "agent.pub")],
            "write": write,
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return checkout


def run(
    agent: Checkout, variants: str, meanwhile: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Run `all`; what it took and what it made."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    command = [str(Path(sys.executable).parent / "snakemake"), "--cores", "2", "all"]
    with (agent.folder.parent / f"{agent.folder.name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--config", f"variants={variants}"],
            cwd=agent.folder,
            env={**environment(), **agent.environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        meanwhile()
        code = process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    made = {
        "cpu_s": round(cpu, 1),
        "wall_s": round(time.monotonic() - started, 1),
        "exit_code": code,
        "jobs": {rule: jobs(agent.folder / "artifacts", rule) for rule in RULES},
        "releases": len(list(agent.folder.glob("artifacts/released/*/*.json"))),
        "payloads": {
            path.parent.name: read_record(path).get("artifact_sha256")
            for path in sorted(agent.folder.glob("artifacts/build/*/*/BUILD.json"))
        },
    }
    print(agent.folder.name, made, flush=True)
    return made


def environment() -> dict[str, str]:
    """Return what a user's shell has."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def jobs(artifacts: Path, rule: str) -> dict[str, Any]:
    """Count what jobs of a rule took, and name those that worked themselves."""
    taken: dict[str, list[str]] = {}
    for path in sorted(artifacts.glob(f"logs/{rule}/*.log")):
        lines = path.read_text().splitlines()
        taken[path.stem] = [line for line in lines if line.startswith("cache: taken: ")]
    parts = [name for name, lines in taken.items() if any(PART in line for line in lines)]
    whole = [name for name, lines in taken.items() if any(PART not in line for line in lines)]
    made = sorted(taken.keys() - whole)
    return {"taken": len(whole), "predictions_taken": len(parts), "made": made}


def lose(artifacts: Path, shelf: Path) -> None:
    """Take the storage away as soon as a build was taken from it."""
    while not list(artifacts.glob("artifacts/build/*/*/BUILD.json")):
        time.sleep(0.05)
    shelf.rename(shelf.with_name("lost"))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Say whether both have the same bytes of every variant that both have."""
    both = one["payloads"].keys() & other["payloads"].keys()
    return all(one["payloads"][name] == other["payloads"][name] for name in both)


if __name__ == "__main__":
    main()
