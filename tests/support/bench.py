"""A bench for checks of real artifacts: three golden prompts, their reference, the command."""

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST, write_manifest
from phiforge.artifact.record import read_record
from phiforge.jobs import Check, Reference
from support.checkout import ROOT
from support.jobs import check_job, run, write_job
from validators.golden import load_golden

SOURCE = ROOT / "models/phi3-tiny"
ASKED = ("guide-introduction", "capital", "sum")


@dataclass(frozen=True)
class Bench:
    """Three golden prompts, their reference, and the command that a rule runs.

    Attributes:
        source: None: the check is done where it is not, as by a kit.
    """

    folder: Path
    golden: Path
    reference: Path
    source: Path | None = SOURCE

    def arguments(self, job: Check, artifact: Path, receipt: Path) -> list[str]:
        """The arguments of command ``check-here`` for ``job``."""
        source = [] if self.source is None else ["--source", str(self.source)]
        return [
            str(write_job(self.folder, job)), *source,
            "--artifact", str(artifact), "--reference", str(self.reference),
            "--golden", str(self.golden), "--acceptance", str(ROOT / "config/acceptance.yaml"),
            "--receipt", str(receipt),
        ]  # fmt: skip

    def check(
        self, variant: str, row: str, artifact: Path, /, *extra: str, **changes: Any
    ) -> tuple[subprocess.CompletedProcess[str], dict[str, Any] | None]:
        """Run a check whose job has ``changes``; its exit code and output, and its receipt."""
        receipt = self.folder / f"{variant}.{row}.{time.monotonic_ns()}.json"
        # three short prompts: the model's own minimum of validated tokens does not hold for them
        job = check_job(variant, row, **{"gates": {}, **changes})
        done = run("check-here", *self.arguments(job, artifact, receipt), *extra)
        return done, read_record(receipt) if receipt.exists() else None

    def receipt(
        self, variant: str, row: str, artifact: Path, /, *extra: str, **changes: Any
    ) -> dict[str, Any]:
        """The receipt of a check that ends well."""
        done, receipt = self.check(variant, row, artifact, *extra, **changes)
        assert done.returncode == 0, done.stderr
        assert receipt is not None
        assert receipt["verdict"] == ("failed" if receipt["failures"] else "passed")
        return receipt

    def failures(
        self, variant: str, row: str, artifact: Path, /, *extra: str, **changes: Any
    ) -> list[str]:
        """Names of its failures."""
        failures = self.receipt(variant, row, artifact, *extra, **changes)["failures"]
        return sorted({failure["name"] for failure in failures})


def make_bench(folder: Path, source: Path = SOURCE, *prompts: dict[str, Any]) -> Bench:
    """Ask a source three golden prompts of phi3-tiny, and other ``prompts``."""
    document = yaml.safe_load((SOURCE / "golden.yaml").read_text(encoding="utf-8"))
    chosen = [prompt for prompt in document["prompts"] if prompt["id"] in ASKED]
    golden = folder / "golden.yaml"
    asked = {"prompts": [*chosen, *prompts]}
    golden.write_text(yaml.safe_dump(asked, allow_unicode=True), encoding="utf-8")
    assert len(load_golden(golden).prompts) == len(ASKED) + len(prompts)
    reference = folder / "reference"
    job = write_job(folder, Reference("phi3-tiny", 256, 2560, synthetic=False))
    done = run("reference", job, "--source", source, "--golden", golden, "--into", reference)
    assert done.returncode == 0, done.stderr
    return Bench(folder, golden, reference, source)


def copied(payload: Path, into: Path) -> Path:
    """A writable copy that changes nothing, as the folder of a build."""
    target = into / "build/payload"
    target.mkdir(parents=True)
    for path in payload.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target.parent


def reseal(payload: Path) -> None:
    """Give an edited payload checksums of its own, so that they do not give it away."""
    for name in (MANIFEST, CHECKSUMS):
        (payload / name).unlink(missing_ok=True)
    write_manifest(payload, {})
