"""A checkout on a Slurm cluster of this machine, for benchmarks/cluster.py."""

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from phiforge.trust.keys import new_key
from support.checkout import ROOT, Checkout, make_checkout
from support.pages import blocks_of, page_text
from support.slurm_cluster import Cluster, ClusterFault, Node, cluster, wait_for

MODEL, VARIANT = "phi3-tiny", "openvino-fp16"
CHOSEN = f"variants={VARIANT}"
ROW = "cpu"
# Each process of a rule says at its end what it and its children took.
SITE = """
import atexit, os, sys
def _tell():
    with open(os.path.join({into!r}, str(os.getpid())), "a") as file:
        file.write(f"{{sum(os.times()[:4])}} {{' '.join(sys.orig_argv[2:4])}}\\n")
if sys.orig_argv[1:3] == ["-m", "phiforge"]:
    atexit.register(_tell)
"""


class Bench:
    """A checkout that every node of a cluster sees."""

    def __init__(self, folder: Path, slurm: Cluster) -> None:
        self.folder, self.slurm = folder, slurm
        self.seen: dict[str, str] = {}
        self._work = folder / "work"
        self.checkout = self._checkout()

    def _checkout(self) -> Checkout:
        made = make_checkout(self.folder / "checkout")
        if not (made.folder / ".venv").exists():
            (made.folder / ".venv").symlink_to(ROOT / ".venv")
        site = self.folder / "site"
        for empty in (self._work, site):
            shutil.rmtree(empty, ignore_errors=True)
            empty.mkdir()
        (site / "sitecustomize.py").write_text(SITE.format(into=str(self._work)))
        return Checkout(made.folder, {"PYTHONPATH": str(site)})

    def page(self) -> list[str]:
        """Return the commands of the page, one block each."""
        page = "docs/cluster.md"
        return [one.text for one in blocks_of(page_text(page), page) if one.language == "sh"]

    def start(self, target: str = "all", *config: str) -> "subprocess.Popen[str]":
        """Start the page's command, as a person would in a terminal of its own."""
        *run, every = self.page()[1].split()
        assert every == "all"
        log = (self.folder / "client.log").open("w")
        self.client = subprocess.Popen(
            [*run, target, "--config", *(config or (CHOSEN,))],
            cwd=self.checkout.folder,
            env={**os.environ, **self.checkout.environment},
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        return self.client

    def end(self) -> None:
        """End a run and its jobs, if there are any, and let another one begin."""
        self.client.kill()
        self.client.wait()
        self.slurm.slurm("scancel", "--user=root")
        self.unlock()

    def unlock(self) -> None:
        """Take away the lock that a killed client has left."""
        self.checkout.run(*self.page()[1].split()[:1], "--unlock", "--cores", "1")

    def wait(self, client: "subprocess.Popen[str]", seconds: float = 3600) -> int:
        """Wait for a client, and note meanwhile which node has which job."""
        deadline = time.monotonic() + seconds
        while client.poll() is None:
            if time.monotonic() > deadline:
                client.kill()
                raise ClusterFault(f"a run did not end within {seconds:.0f} s")
            self.seen |= {job["about"]: job["node"] for job in self.slurm.jobs() if job["node"]}
            time.sleep(1)
        return client.wait()

    def run(self, target: str = "all", *config: str) -> int:
        """Run the page's command to its end, and return its exit code."""
        return self.wait(self.start(target, *config))

    def output(self) -> str:
        return (self.folder / "client.log").read_text()

    def at_work(self, rule: str, *module: str) -> dict[str, str]:
        """Wait until a job of ``rule`` works on a node; by default, its own process."""
        found: list[dict[str, str]] = []

        def works() -> bool:
            jobs = [job for job in self.slurm.jobs() if job["about"].startswith(f"rule_{rule}")]
            process = module or ("phiforge", rule)
            found[:] = [job for job in jobs if job["node"] and self.slurm.works(job, *process)]
            return bool(found)

        wait_for(works, 900, f"a job of {rule} works")
        return found[0]

    def path(self, kind: str, *more: str) -> Path:
        return self.checkout.folder.joinpath("artifacts", kind, MODEL, *more)

    def release(self) -> str:
        """Digest what stands as the variant's release, evidence and all."""
        digest = hashlib.sha256()
        folder = self.path("release", VARIANT)
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(f"{file.relative_to(folder)}\0".encode() + file.read_bytes())
        return digest.hexdigest()

    def is_whole(self) -> bool:
        """Return whether everything of the variant is there, passed, and its release verifies."""
        receipts = [self.receipt(row)["verdict"] for row in (ROW, "gpu-standin")]
        python = self.checkout.folder / ".venv-slurm/bin/python"
        verify = [python, "-m", "phiforge", "verify", "--any-signer"]
        done = subprocess.run(
            [*verify, self.path("release", VARIANT)],
            cwd=self.checkout.folder,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        return receipts == ["passed"] * 2 and done.returncode == 0

    def receipt(self, row: str) -> dict[str, Any]:
        return json.loads(self.path("checks", VARIANT, f"{row}.json").read_text())

    def has_receipt(self, row: str) -> bool:
        return self.path("checks", VARIANT, f"{row}.json").exists()

    def log(self, rule: str, *more: str) -> str:
        name = ".".join((MODEL, VARIANT, *more))
        return (self.checkout.folder / f"artifacts/logs/{rule}/{name}.log").read_text()

    def work_seconds(self) -> float:
        """Return the processor time of the processes that rules have started."""
        lines = [file.read_text().split()[0] for file in self._work.iterdir()]
        return sum(map(float, lines))


@contextmanager
def made_bench(keep: Path | None) -> Iterator[Bench]:
    """Make the cluster and the checkout, in a folder to ``keep`` or in one that goes."""
    with ExitStack() as stack:
        folder = keep or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="phiforge-slurm-"))
        )
        folder.mkdir(parents=True, exist_ok=True)
        private, public = folder / "runner.pem", folder / "node.pub"
        public.unlink(missing_ok=True)
        (folder / "keyid").write_text(new_key(private, public).keyid)
        npu = {"npu": b"", "runner.pem": private.read_bytes()}
        nodes = (
            Node("cpu"),
            Node("npu", "npu-4000", "npu:1", npu),
            Node("broken", "broken", "npu:1"),
        )
        private.unlink()
        shutil.rmtree(folder / "slurm", ignore_errors=True)
        (folder / "slurm").mkdir()
        with cluster(folder / "slurm", nodes) as slurm:
            bench = Bench(folder, slurm)
            install = bench.page()[0]
            # The environment of the checkout is that of this one, installed or not as make sees it.
            make = f'make() {{ command make -o .venv/.installed "$@"; }}; {install}'
            bench.checkout.run("bash", "-ec", make)
            yield bench
