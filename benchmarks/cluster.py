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
import shutil
import signal
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


def fresh(bench: Bench) -> dict[str, Any]:
    """Everything of one variant from nothing."""
    assert bench.run() == 0, bench.told()
    assert bench.is_whole()
    return {"nodes": sorted(set(bench.seen.values()))}


def node_dies(bench: Bench) -> dict[str, Any]:
    """A node dies in the middle of a conversion: Slurm begins the job again on another."""
    bench.forget()
    client = bench.start()
    job = bench.at_work("convert")
    bench.slurm.kill_node(job["node"])
    code = bench.wait(client)
    bench.slurm.start_node(job["node"])
    wait_for(lambda: job["node"] in bench.slurm.idle(), 60, "the node is back")
    assert code == 0, bench.told()
    second = next(node for about, node in bench.seen.items() if about == job["about"])
    assert second != job["node"]
    return {"exit_code": code, "died": job["node"], "made_on": second}


def out_of_memory(bench: Bench) -> dict[str, Any]:
    """The kernel kills a check's runtime, whose control group is full."""
    bench.forget("checks", "gates", "released")
    before = bench.release()
    client = bench.start()
    job = bench.at_work("check", "validators.worker")
    row, step = job["about"].rpartition("_")[2], bench.slurm.step(job)
    used = int((step / "memory.usage_in_bytes").read_text())
    (step / "memory.limit_in_bytes").write_text(str(used + 200_000_000))
    code = bench.wait(client)
    assert code != 0 and not bench.has_receipt(row), bench.told()
    assert bench.release() == before
    return {"exit_code": code, "slurm": bench.slurm.ended(job["id"]), **said(bench, "check", row)}


def time_limit(bench: Bench) -> dict[str, Any]:
    """A conversion hangs until its time is over."""
    bench.forget()
    before = bench.release()
    client = bench.start()
    job = bench.at_work("convert")
    bench.slurm.signal(job, "convert", signal.SIGSTOP)
    bench.slurm.slurm("scontrol", "update", f"JobId={job['id']}", "TimeLimit=1")
    code = bench.wait(client)
    assert code != 0 and not bench.path("build", VARIANT, "BUILD.json").exists(), bench.told()
    assert bench.release() == before
    return {"exit_code": code, "slurm": bench.slurm.ended(job["id"]), **said(bench, "convert")}


def interrupted(bench: Bench) -> dict[str, Any]:
    """Ctrl-C takes the jobs back."""
    bench.forget()
    before = bench.release()
    client = bench.start()
    bench.at_work("convert")
    os.killpg(client.pid, signal.SIGINT)
    code = bench.wait(client)
    wait_for(lambda: not bench.slurm.jobs(), 60, "no job is left")
    assert code != 0 and not bench.path("build", VARIANT, "BUILD.json").exists()
    assert bench.release() == before
    return {"exit_code": code, "jobs_left": 0}


def killed_client(bench: Bench) -> dict[str, Any]:
    """The client is killed; its job is still at work when a second client makes the same."""
    bench.forget()
    before = bench.release()
    client = bench.start()
    job = bench.at_work("convert")
    bench.slurm.signal(job, "convert", signal.SIGSTOP)
    client.kill()
    client.wait()
    assert bench.run() != 0 and "--unlock" in bench.told()
    bench.unlock()
    code = bench.run()
    assert code != 0 and bench.release() == before, bench.told()
    told = said(bench, "convert")
    bench.slurm.signal(job, "convert", signal.SIGCONT)
    wait_for(lambda: not bench.slurm.jobs(), 600, "the first client's job has ended")
    return {"exit_code": code, "first_job": bench.slurm.ended(job["id"]), **told}


def failing_release(bench: Bench) -> dict[str, Any]:
    """A release whose job fails leaves the one that stands."""
    before = bench.release()
    gate = bench.path("gates", f"{VARIANT}.json")
    verdict = gate.read_text()
    gate.write_text(verdict.replace('"artifact_sha256": "', '"artifact_sha256": "0', 1))
    code = bench.run()
    assert code != 0 and bench.release() == before, bench.told()
    what = said(bench, "release")
    gate.unlink()
    return {"exit_code": code, **what}


def placed_row(bench: Bench) -> dict[str, Any]:
    """A row runs on the node that has its device, and that node's key signs the receipt."""
    bench.forget("checks", "gates", "released")
    rows = lab_rows(bench, constraint="npu-4000")
    code = bench.run(CHOSEN, f"device_files={rows}")
    assert code == 0, bench.told()
    receipt = bench.receipt(ROW)
    assert receipt["runner"] == "cluster"
    envelope = json.loads(bench.path("checks", VARIANT, f"{ROW}.dsse.json").read_text())
    node = bench.seen[f"rule_check_wildcards_{MODEL}_{VARIANT}_{ROW}"]
    keyid = envelope["signatures"][0]["keyid"]
    assert node == "npu" and keyid == (bench.folder / "keyid").read_text()
    return {"exit_code": code, "node": node, "verdict": receipt["verdict"], "signed_by_node": True}


def device_gone(bench: Bench) -> dict[str, Any]:
    """The node that the scheduler chose has no device: no verdict."""
    bench.forget("checks", "gates", "released")
    before = bench.release()
    code = bench.run(CHOSEN, f"device_files={lab_rows(bench, constraint='broken')}")
    assert code != 0 and not bench.has_receipt(ROW), bench.told()
    assert bench.release() == before
    return {"exit_code": code, **said(bench, "check", ROW)}


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
    assert " ".join(words) in " ".join(bench.told().split()), "the run names it"
    return {"said": line}


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
        device_gone,
        placed_row,
    )
}


def every_variant(bench: Bench) -> dict[str, Any]:
    """Make `all` of every variant from nothing, and measure."""
    shutil.rmtree(bench.checkout.folder / "artifacts")
    bench.checkout.run("git", "checkout", "artifacts")
    cpu, work = cpu_seconds(), bench.work_seconds()
    started = time.monotonic()
    code = bench.wait(bench.start("variants=all"), 3 * 3600)
    assert code == 0, bench.told()
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
    arguments = parser.parse_args()
    enter()
    result = json.loads(RESULT.read_text()) if RESULT.is_file() else {"scenarios": {}}
    with made_bench() as bench:
        version = bench.slurm.slurm("sinfo", "--version").split()[1]
        about = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "slurm": version}
        for name in dict.fromkeys(["fresh", *arguments.only]):
            result["scenarios"][name] = attempt(bench, name)
            print(f"{name}: {json.dumps(result['scenarios'][name])}", flush=True)
            RESULT.write_text(
                json.dumps({**result, **about, "machine": facts()}, indent=2, sort_keys=True) + "\n"
            )
        if arguments.every_variant:
            result["every_variant"] = {**about, **every_variant(bench)}
            print(json.dumps(result["every_variant"]), flush=True)
    RESULT.write_text(
        json.dumps({**result, **about, "machine": facts()}, indent=2, sort_keys=True) + "\n"
    )


def attempt(bench: Bench, name: str) -> dict[str, Any]:
    """Run a scenario, and then what completes what it left; ``fault``: what went wrong."""
    started = time.monotonic()
    try:
        outcome = SCENARIOS[name](bench)
    except (AssertionError, ClusterFault, OSError, LookupError) as error:
        outcome = {"fault": f"{type(error).__name__}: {error}"[-2000:]}
        bench.end()
    ended = time.monotonic()
    if bench.run() != 0 or not bench.is_whole():
        outcome["fault"] = f"{outcome.get('fault', '')}; the next run: {bench.told()[-2000:]}"
    return {
        **outcome,
        "seconds": round(ended - started),
        "seconds_to_complete": round(time.monotonic() - ended),
    }


if __name__ == "__main__":
    main()
