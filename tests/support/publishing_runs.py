"""What tests of publishing share: releases to publish, and the command, also killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.jobs import Publish
from support.checkout import Checkout
from support.jobs import write_job
from support.releasing import SIGNED_VARIANT, copy_release

NAME = f"phi3-tiny/{SIGNED_VARIANT}"

# Runs the command and kills it at the n-th of the calls that change something in the storage, or
# within one: after its bytes were written and before they were renamed into place.
KILLED = """
import os, runpy, signal, sys
from phiforge.publish.storage_client import StorageClient
left = int(sys.argv.pop(1))
where = sys.argv.pop(1)
def killing(function):
    def call(*arguments):
        global left
        left -= 1
        if left == 0 and where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        done = function(*arguments)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call
if where == "within":
    os.fsync = killing(os.fsync)
else:
    StorageClient.upload = killing(StorageClient.upload)
    StorageClient.remove_folder = killing(StorageClient.remove_folder)
sys.argv[0] = "publishing"
runpy.run_module("phiforge", run_name="__main__", alter_sys=True)
"""


@dataclass
class Publisher:
    """``phiforge publish`` in the pipeline's checkout, for releases below ``root``."""

    checkout: Checkout
    root: Path
    policy: dict[str, Any]
    environment: dict[str, str]

    @property
    def release(self) -> Path:
        return self.root / "release" / NAME

    def take(self, release: Path) -> None:
        """Let this be the release that stands."""
        shutil.rmtree(self.release, ignore_errors=True)
        copy_release(release, self.release)

    def publish(
        self, *, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "phiforge", *self._publish()], check, environment)

    def killed_publish(self, call: int, where: str = "before") -> bool:
        """Publish with a kill at that call; whether it came to that."""
        done = self._run(
            [sys.executable, "-c", KILLED, str(call), where, *self._publish()], False, {}
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        return done.returncode != 0

    def started(self) -> subprocess.Popen[bytes]:
        """Publish in the background, to be killed."""
        return subprocess.Popen(
            [sys.executable, "-m", "phiforge", *self._publish()],
            cwd=self.checkout.folder,
            env={**os.environ, **self.checkout.environment, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def revoke(self, version: str, reason: str, *, artifact_sha256: str | None = None) -> None:
        """Take a version back.

        Args:
            artifact_sha256: what the ledger says it was. Every version that tests release has the
                same bytes, and a revocation concerns these too; with another digest it does not.
        """
        if artifact_sha256 is not None:
            entry = {"artifact_sha256": artifact_sha256, "revoked": None}
            known = {NAME.split("/")[1]: {version: entry}}
            ledger = {"schema": "phiforge/versions/1", "model": "phi3-tiny", "versions": known}
            (self.release.parent / "versions.json").write_text(json.dumps(ledger))
        command = [
            sys.executable,
            "-m",
            "phiforge",
            "revoke",
            NAME,
            version,
            "--reason",
            reason,
        ]
        self._run([*command, "--root", str(self.root)], True, {})

    def forget_revocations(self) -> None:
        """As on another machine."""
        for name in ("revocations.json", "versions.json"):
            (self.release.parent / name).unlink()

    def prune(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "phiforge", "prune", NAME, *arguments, *self._config()]
        return self._run(command, check, {})

    def _publish(self) -> list[str]:
        return ["publish", NAME, "--root", str(self.root), *self._config()]

    def _config(self) -> list[str]:
        job = Publish(self.policy, (NAME,))
        return ["--job", str(write_job(self.root.parent / "jobs", job))]

    def _run(
        self, command: list[str], check: bool, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        done = self.checkout.run(*command, check=check, **{**self.environment, **environment})
        assert "Traceback" not in done.stderr, done.stderr
        return done
