"""What tests of publishing share: releases to publish, and the command, also killed on the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
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
    StorageClient.write = killing(StorageClient.write)
    StorageClient.remove_folder = killing(StorageClient.remove_folder)
sys.argv[0] = "publishing"
runpy.run_module("phiforge", run_name="__main__", alter_sys=True)
"""


@dataclass
class Publisher:
    """``phiforge publish`` in the pipeline's checkout, for releases below ``root``.

    Attributes:
        versions: version to a release of it.
    """

    checkout: Checkout
    versions: Callable[[str], Path]
    root: Path
    policy: dict[str, Any]
    environment: dict[str, str]

    @property
    def release(self) -> Path:
        return self.root / "release" / NAME

    def take(self, release: Path | str) -> None:
        """Let this be the release of the checkout; or one of this version."""
        shutil.rmtree(self.release, ignore_errors=True)
        copy_release(self.versions(release) if isinstance(release, str) else release, self.release)

    def publish(
        self, *versions: str, check: bool = True, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Publish what was taken, or these versions in turn; the last run."""
        for version in versions[:-1]:
            self.publish(version)
        for version in versions[-1:]:
            self.take(version)
        return self.run(*self._publish(), check=check, **environment)

    def killed_publish(self, call: int, where: str = "before") -> bool:
        """Publish with a kill at that call; whether it came to that."""
        done = self.run(str(call), where, *self._publish(), program=("-c", KILLED), check=False)
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
        """Revoke a version, with an ephemeral key.

        Args:
            artifact_sha256: what the ledger says it was. Every version that tests release has the
                same bytes, and a revocation concerns these too; with another digest it does not.
        """
        if artifact_sha256 is not None:
            entry = {"artifact_sha256": artifact_sha256, "revoked": None}
            known = {NAME.split("/")[1]: {version: entry}}
            ledger = {"schema": "phiforge/versions/1", "model": "phi3-tiny", "versions": known}
            (self.release.parent / "versions.json").write_text(json.dumps(ledger))
        self.run("revoke", NAME, version, "--reason", reason, "--root", str(self.root))

    def forget_revocations(self) -> None:
        """Continue as another machine would, which knows of no revocation."""
        for name in ("revocations.json", "versions.json"):
            (self.release.parent / name).unlink()

    def prune(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("prune", *self._job(), *arguments)

    def run(
        self,
        *arguments: str,
        program: Sequence[str] = ("-m", "phiforge"),
        check: bool = True,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of phiforge's in the checkout; it must not end in a traceback."""
        done = self.checkout.run(
            sys.executable, *program, *arguments, check=check, **self.environment | environment
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def _publish(self) -> list[str]:
        return ["publish", "--root", str(self.root), *self._job()]

    def _job(self) -> list[str]:
        job = Publish(self.policy, (NAME,))
        return ["--job", str(write_job(self.root.parent / "jobs", job))]
