"""A project folder with one variant of a few bytes, and the commands that rules run on it."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from phiforge.artifact.record import read_record
from phiforge.jobs import Gate, Promote, Publish, Recipe, Release
from phiforge.trust import keys
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.checkout import ROOT
from support.hub_server import HubServer
from support.jobs import write_job
from support.kills import Scenario
from support.small_release import MINIMUM, MODEL, NPU, VARIANT, SmallVariant

NAME = f"{MODEL}/{VARIANT}"
RELEASE = f"artifacts/release/{NAME}"
RECIPE = Recipe("openvino", "openvino", "int4", None, {})
SIGNED = (  # what holds a signature or a time
    "*/model.sig", "*.dsse.json", "*/sbom.cdx.json", "*/promotions/*.json", "*/revocations.json",
)  # fmt: skip
STORAGE = {"channel": "candidate", "storage": [{"url": "shelf"}]}
HUB = {"channel": "candidate", "hub": {"repo": "acme/{model}-{variant}"}}
REPOSITORY = f"acme/{MODEL}-{VARIANT}"


class Project:
    """A project folder with a variant that was built and checked, and a release key."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.variant = SmallVariant(folder / "work")
        for row in ("cpu", NPU):
            self.variant.name_key(row, keys.ephemeral())
        (folder / "snippet.py").write_text("print('loads')\n")
        for name in ("config", "envs", "models"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "phiforge").mkdir()
        (folder / "phiforge/release").symlink_to(ROOT / "phiforge/release")  # templates
        keys.new_key(folder / "release.key", folder / "release.pub", kind="ecdsa")
        key = {"PHIFORGE_SIGNING_KEY": "release.key", "PHIFORGE_RETRY_SECONDS": "0.01"}
        self.environment = {**key, **(environment or {})}
        self.trust = Trust((keys.read_public(folder / "release.pub"),))

    def scenario(self, name: str, command: tuple[str, ...], judge: Callable[[Path], str],
                 server: HubServer | None = None) -> Scenario:  # fmt: skip
        return Scenario(
            name, self.folder, command, judge, SIGNED,
            environment=self.environment, server=server,
        )  # fmt: skip

    def run(self, command: tuple[str, ...]) -> None:
        """Run a command, which must end well."""
        done = self.attempt(command)
        assert done.returncode == 0, done.stdout + done.stderr

    def attempt(self, command: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
        """Run a command in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "phiforge", *command],
            cwd=self.folder,
            env={**os.environ, **self.environment, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    def release(self, version: str) -> tuple[str, ...]:
        """The command of rule release."""
        gate = Gate("candidate", MINIMUM, self.variant.rows)
        job = Release(
            MODEL,
            VARIANT,
            "small",
            "",
            version,
            RECIPE,
            "urn:test:builder",
            ("en",),
            None,
            True,
            gate,
        )
        receipts = [f"work/checks/{row}.json" for row in self.variant.rows]
        return (
            "release", self._job(job), "--build", "work/build/BUILD.json",
            "--golden", "work/golden.yaml", "--reference", "work/REFERENCE.json",
            "--acceptance", "work/acceptance.yaml", "--snippet", "snippet.py",
            "--verdict", "work/gate.json", "--into", RELEASE,
            "--record", f"artifacts/released/{NAME}.json", *receipts,
        )  # fmt: skip

    def promote(self) -> tuple[str, ...]:
        """The command of rule promote."""
        job = self._job(Promote(MODEL, VARIANT, True))
        return (
            "promote", job, "--build", "work/build/BUILD.json", "--release", RELEASE,
            "--record", f"artifacts/promotions/{NAME}.json",
        )  # fmt: skip

    def publish(self, policy: object, *names: str) -> tuple[str, ...]:
        """The command of rule publish."""
        return "publish", "--job", self._job(Publish(policy, names or (NAME,)))  # type: ignore[arg-type]

    def prune(self, policy: object) -> tuple[str, ...]:
        job = self._job(Publish(policy, (NAME,)))  # type: ignore[arg-type]
        return "prune", "--yes", "--keep", "1", "--job", job

    def revoke(self, version: str) -> tuple[str, ...]:
        return "revoke", NAME, version, "--reason", "wrong tokenizer"

    def published(self, policy: object, *versions: str) -> None:
        for version in versions:
            self.run(self.release(version))
            self.run(self.publish(policy))

    def _job(self, job: object) -> str:
        return write_job(self.folder / "jobs", job).relative_to(self.folder).as_posix()

    def standing(self, place: Path) -> str:
        """The version of the release that stands, or why verify refuses it."""
        release = place / RELEASE
        if not release.exists():
            return "nothing"
        ledger = place / "artifacts/release" / MODEL / "versions.json"
        if ledger.is_file():
            assert read_record(ledger)["versions"][VARIANT]
        return self._verified(release)

    def _verified(self, release: Path) -> str:
        stable = (release / "evidence/promotion.dsse.json").exists()
        found = verify(release, self.trust, channel="stable" if stable else None)
        refused = [finding for finding in found.findings if finding.refuses]
        if refused and all(finding.name == "revoked-version" for finding in refused):
            return f"{found.version}, revoked"
        assert not refused, [finding.line() for finding in refused]
        return f"{found.version}{', stable' if stable else ''}"

    def on_shelf(self, place: Path) -> str:
        """What the pointer names, which a receiver must be able to verify; all listed are there."""
        shelf = place / "shelf" / NAME
        pointer = json.loads((shelf / "latest.json").read_text())
        listed = [self._verified(shelf / one["folder"]) for one in pointer["versions"]]
        latest = pointer["latest"] and self._verified(shelf / pointer["latest"])
        return f"{latest} of {len(listed)}"

    def on_hub(self, server: HubServer, place: Path) -> str:
        """What ``main`` and each tag hold, which a receiver must be able to verify."""
        line = server.lines[REPOSITORY]
        told = []
        for name in ("main", *sorted(line.tags)):
            commit = line.at(name)
            assert commit is not None
            with tempfile.TemporaryDirectory() as folder:
                for file, data in commit.files.items():
                    path = Path(folder) / VARIANT / file
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(data)
                told.append(f"{name} {self._verified(Path(folder) / VARIANT)}")
        objects = sum(len(data) for data in server.objects.values())
        return f"{', '.join(told)}; {len(line.commits)} commits, {objects} bytes"
