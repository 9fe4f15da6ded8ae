"""Run phiforge on a real Slurm of three nodes, disturb it, and look at what is left.

    python benchmarks/cluster.py [--only NAME …] [--every-variant]

Needs root and Slurm's daemons (tests/support/slurm_cluster.py), and some minutes. The commands are
those of docs/cluster.md. Each scenario ends with a run that completes. ``--every-variant`` makes
`all` of every variant besides, and says which share of the processor time was work. The result goes
to cluster.json beside this file; what was not run this time stays there.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import yaml

from cluster_bench import CHOSEN, MODEL, ROW, VARIANT, Bench, made_bench
from machine import facts
from support.slurm_cluster import ClusterFault, cpu_seconds, enter, wait_for

RESULT = Path(__file__).with_name("cluster.json")
BUILD = f"artifacts/build/{MODEL}/{VARIANT}/BUILD.json"
RECEIPT = f"artifacts/checks/{MODEL}/{VARIANT}/{ROW}.json"
RELEASED = f"artifacts/released/{MODEL}/{VARIANT}.json"


def fresh(bench: Bench) -> dict[str, Any]:
    """Everything of one variant, from nothing where the folder is new."""
    assert bench.run() == 0, bench.output()
    assert bench.is_whole()
    return {"nodes": sorted(set(bench.seen.values()))}


def node_dies(bench: Bench) -> dict[str, Any]:
    """A node dies in the middle of a conversion: Slurm begins the job again on another."""
    client = converting(bench)
    job = bench.at_work("convert")
    bench.slurm.kill_node(job["node"])
    code = bench.wait(client)
    bench.slurm.start_node(job["node"])
    wait_for(lambda: job["node"] in bench.slurm.idle(), 300, "the node is back")
    assert code == 0 and (bench.checkout.folder / BUILD).is_file(), bench.output()
    second = bench.seen[job["about"]]
    assert second != job["node"]
    return {"exit_code": code, "died": job["node"], "made_on": second}


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """The kernel kills a check's runtime, whose control group is full."""
    (bench.checkout.folder / RECEIPT).unlink()
    client = bench.start(RECEIPT)
    job = bench.at_work("check", "validators.worker")
    step = bench.slurm.step(job)
    used = int((step / "memory.usage_in_bytes").read_text())
    (step / "memory.limit_in_bytes").write_text(str(used + 200_000_000))
    code = bench.wait(client)
    assert code != 0 and not bench.has_receipt(ROW), bench.output()
    outcome = {"slurm": bench.slurm.ended(job["id"]), **said(bench, "check", ROW)}
    assert bench.run(RECEIPT) == 0, bench.output()
    return {"exit_code": code, **outcome}


def time_limit(bench: Bench) -> dict[str, Any]:
    """A conversion hangs until its time is over."""
    client = converting(bench)
    job = bench.at_work("convert")
    bench.slurm.signal(job, "convert", signal.SIGSTOP)
    bench.slurm.slurm("scontrol", "update", f"JobId={job['id']}", "TimeLimit=1")
    code = bench.wait(client)
    assert code != 0 and not (bench.checkout.folder / BUILD).exists(), bench.output()
    (line,) = re.findall(r"SLURM-job '\d+' failed, SLURM status is: 'TIMEOUT'", bench.output())
    assert bench.run(BUILD) == 0, bench.output()
    return {"exit_code": code, "said": line}


def interrupted(bench: Bench) -> dict[str, Any]:
    """Ctrl-C takes the jobs back."""
    client = converting(bench)
    bench.at_work("convert")
    os.killpg(client.pid, signal.SIGINT)
    code = bench.wait(client)
    wait_for(lambda: not bench.slurm.jobs(), 300, "no job is left")
    assert code != 0 and not (bench.checkout.folder / BUILD).exists()
    assert bench.run(BUILD) == 0, bench.output()
    return {"exit_code": code, "jobs_left": 0}


def killed_client(bench: Bench) -> dict[str, Any]:
    """The client is killed; its job is still at work when a second client makes the same."""
    client = converting(bench)
    job = bench.at_work("convert")
    bench.slurm.signal(job, "convert", signal.SIGSTOP)
    client.kill()
    client.wait()
    assert bench.run(BUILD) != 0 and "--unlock" in bench.output()
    bench.unlock()
    code = bench.run(BUILD)
    assert code != 0, bench.output()
    outcome = said(bench, "convert")
    bench.slurm.signal(job, "convert", signal.SIGCONT)
    wait_for(lambda: not bench.slurm.jobs(), 900, "the first client's job has ended")
    assert bench.run(BUILD) == 0, bench.output()
    return {"exit_code": code, "first_job": bench.slurm.ended(job["id"]), **outcome}


def failing_release(bench: Bench) -> dict[str, Any]:
    """A release whose job fails leaves the one that stands."""
    assert bench.run(BUILD) == 0 and bench.run() == 0, bench.output()
    receipt, before = bench.path("checks", f"{VARIANT}/cpu.json"), bench.release()
    passed = receipt.read_text()
    receipt.write_text(passed.replace('"verdict": "passed"', '"verdict": "failed"'))
    code = bench.run(RELEASED)
    assert code != 0 and bench.release() == before, bench.output()
    outcome = said(bench, "release")
    receipt.write_text(passed)
    assert bench.run(RELEASED) == 0, bench.output()
    return {"exit_code": code, **outcome}


def placed_row(bench: Bench) -> dict[str, Any]:
    """A row's device is not on the node that it names; then it is, and the node's key signs."""
    code = bench.run(RECEIPT, CHOSEN, f"device_files={lab_rows(bench, constraint='broken')}")
    assert code != 0 and not bench.has_receipt(ROW), bench.output()
    outcome = said(bench, "check", ROW)
    second = bench.run(RECEIPT, CHOSEN, f"device_files={lab_rows(bench, constraint='npu-4000')}")
    assert second == 0, bench.output()
    receipt = bench.receipt(ROW)
    assert receipt["runner"] == "cluster" and receipt["verdict"] == "passed"
    envelope = json.loads(bench.path("checks", VARIANT, f"{ROW}.dsse.json").read_text())
    keyid = envelope["signatures"][0]["keyid"]
    assert keyid == (bench.folder / "keyid").read_text(), "the node's key"
    node = bench.seen[f"rule_check_wildcards_{MODEL}_{VARIANT}_{ROW}"]
    assert node == "npu"
    return {"exit_code": code, **outcome, "then": {"node": node, "verdict": receipt["verdict"]}}


def converting(bench: Bench) -> "subprocess.Popen[str]":
    """Start the conversion of a variant whose build is gone."""
    shutil.rmtree(bench.path("build", VARIANT), ignore_errors=True)
    return bench.start(BUILD)


def lab_rows(bench: Bench, constraint: str) -> Path:
    """Write a file with a row whose device only a node with ``constraint`` should have."""
    device = bench.slurm.devices
    row = {
        "summary": "the node's processor",
        "kind": "device",
        "runner": "cluster",
        "executes": "CPU",
        "key": "node.pub",
        "slurm": {
            "partition": "main",
            "constraint": constraint,
            "gres": "npu:1",
            "runner_key": str(device / "runner.pem"),
        },
        "detect": {"files": [str(device / "npu")]},
        "runtimes": {"openvino": {"module": "openvino", "settings": {"device": "CPU"}}},
    }
    path = bench.folder / f"{constraint}.yaml"
    path.write_text(yaml.safe_dump({ROW: row}))
    return path


def said(bench: Bench, rule: str, *more: str) -> dict[str, str]:
    """Return the last line of a job's log, which the table at the end of the run has shown."""
    line = bench.log(rule, *more).strip().rpartition("\n")[2]
    assert line.startswith("error: "), line
    words = line.removeprefix("error: ").split()[:4]
    assert " ".join(words) in " ".join(bench.output().split()), "the run names it"
    return {"said": line.replace(str(bench.folder), "FOLDER")}


def whole(bench: Bench) -> dict[str, Any]:
    """After all of it, `all` completes what is left."""
    assert bench.run() == 0 and bench.is_whole(), bench.output()
    return {}


SCENARIOS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    one.__name__.replace("_", "-"): one
    for one in (
        fresh,
        node_dies,
        out_of_memory,
        time_limit,
        interrupted,
        killed_client,
        failing_release,
        placed_row,
        whole,
    )
}


def every_variant(bench: Bench) -> dict[str, Any]:
    """Make `all` of every variant from nothing, and measure."""
    shutil.rmtree(bench.checkout.folder / "artifacts")
    bench.checkout.run("git", "checkout", "artifacts")
    cpu, work = cpu_seconds(), bench.work_seconds()
    started = time.monotonic()
    code = bench.wait(bench.start("all", "variants=all"), 3 * 3600)
    assert code == 0, bench.output()
    cpu, work = cpu_seconds() - cpu, bench.work_seconds() - work
    return {
        "seconds": round(time.monotonic() - started),
        "cpu_s": round(cpu),
        "work_cpu_s": round(work),
        "share_of_work": round(work / cpu, 2),
        "releases": len(list(bench.path("release").glob("[!.]*/MANIFEST.json"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--every-variant", action="store_true", help="besides, and last")
    parser.add_argument("--folder", type=Path, help="keep the checkout here, and go on with it")
    arguments = parser.parse_args()
    # A shell's background jobs ignore Ctrl-C, and what they start would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    enter()
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {"scenarios": {}}
    with made_bench(arguments.folder) as bench:
        version = bench.slurm.slurm("sinfo", "--version").split()[1]
        about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "slurm": version}
        for name in ["fresh", *(name for name in arguments.only if name != "fresh"), "whole"]:
            outcome = attempt(bench, name)
            print(f"{name}: {json.dumps(outcome)}", flush=True)
            if name == "fresh" and outcome.get("nodes") == []:
                continue  # a kept folder had all of it
            result["scenarios"][name] = outcome
            write({**result, **about})
        if arguments.every_variant:
            result["every_variant"] = {**about, **every_variant(bench)}
            print(json.dumps(result["every_variant"]), flush=True)
            write({**result, **about})


def write(result: dict[str, Any]) -> None:
    text = json.dumps({**result, "machine": facts()}, indent=2, sort_keys=True)
    RESULT.write_text(f"{text}\n")


def attempt(bench: Bench, name: str) -> dict[str, Any]:
    """Run a scenario, with the run that completes; ``fault``: what went wrong.

    What fails but a release touches none.
    """
    started, before = time.monotonic(), bench.release()
    try:
        outcome = SCENARIOS[name](bench)
        if name not in ("fresh", "failing-release", "whole") and bench.release() != before:
            outcome["fault"] = "another release stands"
    except (AssertionError, ClusterFault, OSError, LookupError) as error:
        outcome = {"fault": f"{type(error).__name__}: {error}"[-3000:]}
        bench.end()
    return {**outcome, "seconds": round(time.monotonic() - started)}


if __name__ == "__main__":
    main()
