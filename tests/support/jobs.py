"""Jobs as the rules build them, and the commands that do them."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phiforge.jobs import Check, to_json
from phiforge.offline import OFFLINE
from phiforge.rules import Jobs
from phiforge.settings.documents import read_yaml
from phiforge.settings.settings import load
from support.checkout import ROOT

CONFIG = read_yaml(ROOT / "config/config.yaml")
SETTINGS = load(CONFIG, ROOT / "config")
JOBS = Jobs(SETTINGS)


@dataclass(frozen=True)
class Names:
    """The wildcards of a job."""

    model: str = "phi3-tiny"
    variant: str = ""
    device: str = ""

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in (self.model, self.variant, self.device) if name])


def check_job(variant: str, row: str, /, **changes: Any) -> Check:
    """The check of a variant of phi3-tiny on a row, as if the row were here."""
    return replace(JOBS.check(Names(variant=variant, device=row)), **{"blocked": None, **changes})


def write_job(folder: Path, job: Any) -> Path:
    """Write a job's file, as Snakemake does before it runs the command."""
    folder.mkdir(parents=True, exist_ok=True)
    text = to_json(job)
    path = folder / f"{type(job).__name__}.{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
    path.write_text(text, encoding="utf-8")
    return path


def command(name: str, *arguments: object) -> list[str]:
    """The command line of one of phiforge's commands."""
    return [sys.executable, "-m", "phiforge", name, *map(str, arguments)]


def run(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one of phiforge's commands; output is captured as text."""
    return python("-m", "phiforge", name, *arguments, **environment)


def python(
    *arguments: object, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run this Python; output is captured as text."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **OFFLINE, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
