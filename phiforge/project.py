"""Which state of this project did some work: for evidence, never for a payload."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.environment import MARKER

LOCK = "envs/main.lock"
PROJECT = "PHIFORGE_PROJECT"  # commit and cleanness where Snakemake runs, for jobs without a clone


def project_state() -> dict[str, Any]:
    """Commit, cleanness and locked toolchain of this checkout.

    ``commit`` (40 hex digits) and ``clean`` are those of the checkout that this folder's files were
    taken from for a job, or None where git does not know this folder: not a clone, or no git here.
    ``lock_sha256`` is the digest of the toolchain's lock file; ``environments`` maps every other
    environment that is installed here to the digest of the lock that it was made from
    (`phiforge.environment`).
    """
    told = _git("rev-parse", "--show-toplevel", "HEAD")
    state: dict[str, Any] = {"commit": None, "clean": None, "lock_sha256": None}
    state["environments"] = {
        marker.parent.name.removeprefix(".venv-"): marker.read_text(encoding="utf-8").strip()
        for marker in sorted(ROOT.glob(f".venv-*/{MARKER}"))
    }
    if (ROOT / LOCK).is_file():
        state["lock_sha256"] = sha256_file(ROOT / LOCK)
    if told is not None:
        top, commit = told.splitlines()
        changes = _git("status", "--porcelain")
        if Path(top) == ROOT and changes is not None:  # not a folder in someone else's clone
            state.update(commit=commit, clean=not changes.strip())
    elif of_plan := os.environ.get(PROJECT):
        state.update(json.loads(of_plan))
    return state


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "--no-optional-locks", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None
