"""One check of the pipeline's artifact on a device that is elsewhere, as rule check runs it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from phiforge.jobs import Blocked
from phiforge.remote.kit import Kit, kit_file
from phiforge.rules import Jobs
from phiforge.settings.settings import load
from support.checkout import ROOT, Checkout
from support.jobs import CONFIG, Names, command, write_job
from support.lab_host import LabServer

VARIANT = "openvino-int4"
ROWS: Mapping[str, Any] = {
    "cpu": {
        "summary": "the lab's CPU",
        "kind": "device",
        "executes": "CPU",
        "runtimes": {
            "openvino": {
                "module": "openvino",
                "lock": "device-openvino",
                "settings": {"device": "CPU"},
            },
            "onnx-genai": {
                "module": "onnx_genai",
                "lock": "device-onnx-genai",
                "settings": {"provider": "cpu"},
            },
        },
    }
}


def small_kit(folder: Path, job: str, payload: bytes = b"") -> Kit:
    """A kit whose job is a Python module with the text ``job``; it needs no package."""
    folder.mkdir(exist_ok=True)
    sources = {"code/job.py": job.encode(), "device.lock": b"", "payload/weights": payload}
    files = []
    for name, data in sources.items():
        source = folder / Path(name).name
        source.write_bytes(data)
        files.append(kit_file(name, source))
    document = {
        "title": "a job",
        "module": "job",
        "executes": "CPU",
        "arguments": [],
        "python": "3.11",
        "result": "job.receipt.zip",
        "files": {file.name: {"sha256": file.sha256, "size": file.size} for file in files},
    }
    return Kit(document, tuple(files), {"device": "cpu"})


@dataclass(frozen=True)
class Bench:
    """One check of the pipeline's artifact, by a lab host or from an inbox, in its own folder."""

    checkout: Checkout
    folder: Path
    private: Path
    public: Path
    server: LabServer | None = None

    @property
    def receipt(self) -> Path:
        return self.folder / "out/cpu.json"

    def rows(self, **row: Any) -> Path:
        """A lab's own file with the row ``cpu``."""
        path = self.folder / "devices.yaml"
        block = {**ROWS["cpu"], "key": str(self.public), **row}
        path.write_text(yaml.safe_dump({"cpu": block}), encoding="utf-8")
        return path

    def host(self, **ssh: Any) -> dict[str, Any]:
        assert self.server is not None
        own = {"folder": str(self.folder / "lab"), "runner_key": str(self.private)}
        return self.server.row(**{**own, "python": sys.executable, **ssh})

    def command(
        self, *extra: object, blocked: Blocked | None = None, **row: Any
    ) -> tuple[list[str], dict[str, str]]:
        """The command that rule check runs, and its environment."""
        chosen = load({**CONFIG, "device_files": [str(self.rows(**row))]}, ROOT / "config")
        jobs, names = Jobs(chosen), Names(variant=VARIANT, device="cpu")
        job = write_job(self.folder, replace(jobs.check(names), blocked=blocked))
        artifacts = self.checkout.folder / "artifacts"
        (key,) = jobs.row_key(names)
        arguments = [
            job, "--key", key, "--lock", "envs/device-openvino.lock",
            "--artifact", artifacts / "build/phi3-tiny" / VARIANT,
            "--reference", artifacts / "reference/phi3-tiny",
            "--golden", ROOT / "models/phi3-tiny/golden.yaml",
            "--acceptance", "config/acceptance.yaml", "--receipt", self.receipt, *extra,
        ]  # fmt: skip
        return command("check", *arguments), {**os.environ, **jobs.environment}

    def inbox(self, *files: object, **row: Any) -> subprocess.CompletedProcess[str]:
        """A check of a row that is not here, with what a courier brought."""
        row = {"runner": "courier", **row}
        blocked = Blocked("not here", "go there")
        return run(*self.command("--inbox", *files, blocked=blocked, **row))


def run(command: list[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
