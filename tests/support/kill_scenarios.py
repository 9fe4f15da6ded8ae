"""What is killed at each of its writes: the children that rules run, on releases of a few bytes.

    PYTHONPATH=.:tests python -m support.kill_scenarios SCENARIO [SAMPLE]

Prints the outcome as JSON. Each scenario has a process of its own: the Hub's client reads the
address of a Hub when it is imported.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import Blocked, Fetch
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed, write_signed
from phiforge.remote import agent
from phiforge.trust import keys
from support.checkout import ROOT
from support.fetching import NEEDED, make_checkpoint
from support.hub_server import HubServer
from support.jobs import check_job, write_job
from support.kills import Scenario, kill_at_each_write
from support.lab_bench import small_kit
from support.small_project import HUB, RECIPE, STORAGE, Project
from support.small_release import NPU, VARIANT, SmallVariant

# Imported once, before the forks; what a Hub's client imports follows when its address is known.
WARM = (
    "jinja2",
    "phiforge.publish.prune",
    "phiforge.publish.publish",
    "phiforge.publish.storage_repository",
    "phiforge.release.command",
    "phiforge.release.model_signature",
    "phiforge.release.promotion",
    "phiforge.release.revoke",
    "phiforge.remote.check",
    "phiforge.remote.receipts",
    "phiforge.sources.fetch",
)


@contextmanager
def first_release(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    yield project.scenario("release", project.release("0.1.0"), project.standing)


@contextmanager
def next_release(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    project.run(project.release("0.1.0"))
    yield project.scenario("next release", project.release("0.2.0"), project.standing)


@contextmanager
def promotion(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    project.run(project.release("0.1.0"))
    yield project.scenario("promotion", project.promote(), project.standing)


@contextmanager
def revocation(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    project.run(project.release("0.1.0"))
    yield project.scenario("revocation", project.revoke("0.1.0"), project.standing)


@contextmanager
def publication(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    project.published(STORAGE, "0.1.0")
    project.run(project.release("0.2.0"))
    yield project.scenario("publication", project.publish(STORAGE), project.on_shelf)


@contextmanager
def published_revocation(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    project.published(STORAGE, "0.1.0")
    project.run(project.revoke("0.1.0"))
    yield project.scenario("published revocation", project.publish(STORAGE), project.on_shelf)


@contextmanager
def retention(folder: Path) -> Iterator[Scenario]:
    project = Project(folder)
    project.published(STORAGE, "0.1.0", "0.2.0", "0.3.0")
    yield project.scenario("retention", project.prune(STORAGE), project.on_shelf)


@contextmanager
def _hub_project(folder: Path, *versions: str) -> Iterator[tuple[Project, HubServer]]:
    with HubServer() as server:
        server.large = 1000  # so that a few kilobytes are in LFS
        own = {"HF_ENDPOINT": server.address, "HF_TOKEN": server.writer,
               "HF_HUB_DISABLE_XET": "1"}  # fmt: skip
        os.environ.update(own)
        project = Project(folder, own)
        project.published(HUB, *versions)
        importlib.import_module("phiforge.publish.hub_repository")
        yield project, server


@contextmanager
def hub_publication(folder: Path) -> Iterator[Scenario]:
    with _hub_project(folder, "0.1.0") as (project, server):
        project.run(project.release("0.2.0"))
        yield project.scenario(
            "hub publication", project.publish(HUB), lambda place: project.on_hub(server, place),
            server,
        )  # fmt: skip


@contextmanager
def hub_revocation(folder: Path) -> Iterator[Scenario]:
    with _hub_project(folder, "0.1.0") as (project, server):
        project.run(project.revoke("0.1.0"))
        yield project.scenario(
            "hub revocation", project.publish(HUB), lambda place: project.on_hub(server, place),
            server,
        )  # fmt: skip


@contextmanager
def hub_retention(folder: Path) -> Iterator[Scenario]:
    with _hub_project(folder, "0.1.0", "0.2.0", "0.3.0") as (project, server):
        yield project.scenario(
            "hub retention", project.prune(HUB), lambda place: project.on_hub(server, place), server
        )


def fetched(place: Path) -> str:
    """Which checkpoint stands, whose every file is what its record says."""
    record = place / "source/SOURCE.json"
    if not record.exists():
        return "nothing"
    files = {one["path"]: one["sha256"] for one in read_record(record)["files"]}
    found = {path.name: sha256_file(path) for path in (place / "source/files").iterdir()}
    assert found == files
    return files["config.json"][:8]


@contextmanager
def fetch_from_folder(folder: Path) -> Iterator[Scenario]:
    files = {name: data for name, data in make_checkpoint().items() if name in NEEDED}
    (folder / "weights").mkdir()
    lines = []
    for name, data in files.items():
        path = folder / "weights" / name
        path.write_bytes(data)
        lines.append(f"{sha256_file(path)}  {name}\n")
    (folder / "weights/SHA256SUMS").write_text("".join(lines))
    job = write_job(folder, Fetch("phi", {"path": "weights", "checksums": "SHA256SUMS"}))
    command = ("fetch", job.name, "--into", "source")
    yield Scenario("fetch from a folder", folder, command, fetched, vary=("source/.local.json",))


@contextmanager
def fetch_from_hub(folder: Path) -> Iterator[Scenario]:
    """The next commit over the first, two files of which are other ones."""
    with HubServer() as server:
        os.environ.update(HF_ENDPOINT=server.address, PHIFORGE_RETRY_SECONDS="0.01")
        files = make_checkpoint()
        weights = frozenset(name for name in files if name.startswith("model-"))
        jobs = []
        for config in (files["config.json"], b'{"a": 1}'):
            commit = server.commit("acme/phi", {**files, "config.json": config}, weights)
            source = {"repo": commit.name, "revision": commit.revision}
            jobs.append(write_job(folder, Fetch("phi", source)).name)
        first, second = (("fetch", job, "--into", "source") for job in jobs)
        subprocess.run(
            [sys.executable, "-m", "phiforge", *first],
            cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
        )  # fmt: skip
        importlib.import_module("phiforge.sources.hub")
        yield Scenario("fetch from a hub", folder, second, fetched)


@contextmanager
def inbox(folder: Path) -> Iterator[Scenario]:
    variant = SmallVariant(folder / "work")
    signer = keys.ephemeral()
    variant.name_key(NPU, signer)
    (folder / "device.pub").write_text(signer.public_key.pem)
    subject = replace(variant.subject(NPU), runner="courier")
    receipt = variant.passed(NPU, runner=subject.runner)
    brought = folder / "brought" / f"{NPU}.json"
    write_signed(brought, receipt, signer)
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        for path in (brought, envelope_path(brought)):
            archive.write(path, path.name)
    row = replace(variant.rows[NPU].row, runner="courier")
    blocked = Blocked("no NPU here", "use a kit")
    made = replace(check_job(VARIANT, "npu-4000"), recipe=RECIPE, row=row, gates={}, tools={})
    job = write_job(folder, replace(made, blocked=blocked))
    command = (
        "check", job.name, "--key", "device.pub", "--inbox", "x.zip", "--artifact", "work/build",
        "--reference", "work", "--golden", "work/golden.yaml",
        "--acceptance", "work/acceptance.yaml", "--receipt", f"checks/{NPU}.json",
    )  # fmt: skip

    def judge(place: Path) -> str:
        taken = place / f"checks/{NPU}.json"
        return read_signed(taken).verdict if taken.exists() else "nothing"

    yield Scenario("inbox", folder, command, judge)


def _stored(place: Path) -> str:
    """How many files the store of a lab host holds, each under its digest."""
    files = [path for path in (place / "lab/store").iterdir() if path.suffix != ".part"]
    assert all(sha256_file(path) == path.name for path in files)
    return f"{len(files)} stored"


@contextmanager
def lab_store(folder: Path) -> Iterator[Scenario]:
    """An agent that takes in what was sent, then does a job with it."""
    kit = small_kit(folder / "kit", "print('the job ran')", b"weights" * 100)
    (folder / "lab/store").mkdir(parents=True)
    (folder / "lab/heartbeats").mkdir()
    for file in kit.files:
        (folder / f"lab/store/{file.sha256}.me.part").write_bytes(file.source.read_bytes())
    names = [file.sha256 for file in kit.files]

    def agent_s_work() -> None:
        """What a client asks for, again and again."""
        state: dict[str, list[str]] = {}
        agent._State.report = staticmethod(lambda event, **fields: state.update(fields))
        pins: dict[str, str] = {}
        agent.probe("lab", "me", names, names[0], pins, None)
        missing = [name for name in names if name not in state["present"]]
        agent.store("lab", "me", missing)
        agent.run("lab", kit.job_json(), "beat", 60.0, 60.0, None)
        assert state["exit"] == 0, state

    yield Scenario("lab's store", folder, agent_s_work, _stored)


SCENARIOS = {
    "release": first_release,
    "next-release": next_release,
    "promotion": promotion,
    "revocation": revocation,
    "publication": publication,
    "published-revocation": published_revocation,
    "retention": retention,
    "hub-publication": hub_publication,
    "hub-revocation": hub_revocation,
    "hub-retention": hub_retention,
    "fetch-from-a-folder": fetch_from_folder,
    "fetch-from-a-hub": fetch_from_hub,
    "inbox": inbox,
    "lab-store": lab_store,
}


def main(name: str, sample: str | None = None) -> None:
    with tempfile.TemporaryDirectory(prefix="phiforge-kills-") as folder:
        start = Path(folder).resolve() / "start"
        start.mkdir()
        for module in WARM:
            importlib.import_module(module)
        with SCENARIOS[name](start) as scenario:
            outcome = kill_at_each_write(scenario, None if sample is None else int(sample))
    print(json.dumps(asdict(outcome), indent=2, sort_keys=True))


if __name__ == "__main__":
    main(*sys.argv[1:])
