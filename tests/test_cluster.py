"""What a cluster's jobs ask for, what a node gets of the plan, and what its failures leave.

A real Slurm is in benchmarks/cluster.py: it takes minutes, and three daemons of root's.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import yaml
from snakemake.io import is_flagged

from phiforge.cluster import SNAKEMAKES_MB, blocked_by_plan
from phiforge.rules import Jobs
from phiforge.settings.devices import load_devices
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.plan import blocked_row
from phiforge.settings.settings import load
from phiforge.trust.keys import new_key
from support.checkout import ROOT
from support.jobs import CONFIG, JOBS, SETTINGS, Names, check_job, run, write_job
from support.pages import blocks_of, page_text

NAMES = Names(variant="openvino-int4-npu", device="npu-4000")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """The rows of docs/cluster.md, the device's file in this folder."""
    (block,) = (
        one for one in blocks_of(page_text("docs/cluster.md"), "") if one.language == "yaml"
    )
    row = yaml.safe_load(block.text)
    row["npu-4000"]["detect"]["files"] = [f"{tmp_path}/device"]
    path = tmp_path / "nodes.yaml"
    path.write_text(yaml.safe_dump(row))
    return path


def jobs(rows: Path, **about: Any) -> Jobs:
    return Jobs(load({**CONFIG, "device_files": [str(rows)]}, ROOT / "config"), **about)


def test_a_row_on_nodes_is_available_and_says_where(rows: Path) -> None:
    made = jobs(rows, on_cluster=True)
    assert made.check(NAMES).blocked is None
    asked = {name: ask(NAMES) for name, ask in made.requests.nodes.items()}
    assert asked == {"slurm_partition": "lab", "constraint": "npu-4000", "gres": "npu:1"}
    here = Names(variant="openvino-int4", device="cpu")
    assert {ask(here) for ask in made.requests.nodes.values()} == {None}
    assert JOBS.requests.nodes == {}, "no row names nodes: the profile's stay"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"slurm": None}, "key 'npu-4000.slurm' is missing"),
        ({"slurm": {}}, "key 'npu-4000.slurm.constraint' is missing"),
        ({"slurm": {"gres": "npu 1"}}, "key 'npu-4000.slurm.gres' has a value that is not allowed"),
        ({"slurm": {"gres": "npu:1", "runner_key": "a.pem"}}, "key 'npu-4000.slurm.runner_key'"),
        ({"runner": "local"}, "key 'npu-4000.slurm' has no meaning for runner: local"),
        ({"detect": None}, "key 'npu-4000.detect' is missing"),
    ],
)
def test_a_mistake_in_such_a_row_names_its_key(
    rows: Path, keys: dict[str, Any], message: str
) -> None:
    document = yaml.safe_load(rows.read_text())
    row = {**document["npu-4000"], **keys}
    row = {key: value for key, value in row.items() if value is not None}
    rows.write_text(yaml.safe_dump({"npu-4000": row}))
    with pytest.raises(ConfigurationError) as caught:
        load_devices([ROOT / "config/devices.yaml", rows])
    assert message in str(caught.value)


def test_a_request_is_the_job_s_need_and_what_is_around_it(rows: Path) -> None:
    here, there = JOBS.requests, jobs(rows, on_cluster=True).requests
    ask = Names(variant="openvino-int4", device="cpu")
    needed = JOBS.check_memory(ask)
    assert here.memory(JOBS.check_memory)(ask) == needed
    assert there.memory(JOBS.check_memory)(ask) == needed + SNAKEMAKES_MB
    large = Names("phi-3-mini-4k", "openvino-int4", "cpu")
    for minutes in (there.reference_minutes, there.convert_minutes, there.check_minutes):
        assert 30 < minutes(ask) < minutes(large) < 24 * 60


def test_a_node_follows_the_plan_whatever_devices_it_has(
    rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert blocked_by_plan() is None
    plan = Jobs(SETTINGS)
    for name, value in plan.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("phiforge.rules.blocked_row", lambda row, tools: None)
    node = Jobs(SETTINGS, blocked=blocked_by_plan())
    assert node.blocked == plan.blocked
    assert node.rows.sets() == plan.rows.sets() != Jobs(SETTINGS).rows.sets()


@pytest.fixture
def check(rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """A check on a node; it ends before it reads the artifact, which is not there."""
    made = jobs(rows)
    for name, value in made.environment.items():
        if name.startswith("PHIFORGE_"):
            monkeypatch.setenv(name, value)
    job = write_job(tmp_path, made.check(NAMES))
    names = ("artifact", "reference", "golden", "acceptance", "receipt")
    options = [f"--{name}={tmp_path / name}" for name in names]
    yield SimpleNamespace(
        run=lambda *more: run("check", job, *options, *more).stderr, folder=tmp_path
    )
    assert not (tmp_path / "receipt").exists()


def test_a_node_without_the_device_gives_no_verdict(check: SimpleNamespace) -> None:
    assert re.match(
        r"error: \S+: no the cluster's Lunar Lake here: \S+/device is missing, and 'npu-4000' has"
        r" runner: cluster\. Remedy: let 'slurm' of the row name nodes",
        check.run(),
    )


def test_a_node_signs_with_its_own_key_or_not_at_all(
    check: SimpleNamespace, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (check.folder / "device").write_text("0x643e\n")
    named, other = (check.folder / name for name in ("named", "other"))
    for key in (named, other):
        new_key(key, key.with_suffix(".pub"))
    nodes = json.loads(os.environ["PHIFORGE_NODES"])
    for private, said in (
        (named, "golden: no such file"),
        (other, "another key would sign the receipt"),
    ):
        nodes["npu-4000"]["runner_key"] = str(private)
        monkeypatch.setenv("PHIFORGE_NODES", json.dumps(nodes))
        assert said in check.run("--key", named.with_suffix(".pub"))


def test_a_check_that_a_scheduler_ends_says_so_and_leaves_no_receipt(tmp_path: Path) -> None:
    job = write_job(tmp_path, check_job("openvino-int4", "cpu"))
    waiting = tmp_path / "golden"
    os.mkfifo(waiting)  # never written
    names = ("artifact", "reference", "golden", "acceptance", "receipt")
    command = [sys.executable, "-m", "phiforge", "check-here", str(job)]
    command += [f"--{name}={tmp_path / name}" for name in names]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    at_work = os.open(waiting, os.O_WRONLY)  # opened once it reads
    while psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING:
        time.sleep(0.01)  # until it waits: a signal just before that ends no system call
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    os.close(at_work)
    assert process.returncode == 143 and errors.startswith("error: ended from outside (SIGTERM)")
    assert not (tmp_path / "receipt").exists()


def test_a_row_is_not_blocked_without_its_device(rows: Path) -> None:
    row = load_devices([ROOT / "config/devices.yaml", rows])["npu-4000"]
    assert blocked_row(row, {}) is None


def test_what_no_storage_carries_is_marked_only_where_there_is_a_storage() -> None:
    assert JOBS.outside_storage(JOBS.golden) is JOBS.golden
    assert "PHIFORGE_PAYLOADS" not in JOBS.environment
    stored = Jobs(SETTINGS, payloads={"url": "s3://bucket/payloads", "options": {}})
    golden = stored.outside_storage(stored.golden)(NAMES)
    assert golden == str(SETTINGS.models["phi3-tiny"].golden) and "local" not in golden.flags
    assert is_flagged(golden, "sourcecache_entry"), "git tracks it, so each job has it"
    paths = ["artifacts/released/a/b.json", "artifacts/checks/c"]
    release, receipt = stored.outside_storage(paths)
    assert is_flagged(release, "local") and not is_flagged(receipt, "local")
    assert set(json.loads(stored.environment["PHIFORGE_PROJECT"])) == {"commit", "clean"}
