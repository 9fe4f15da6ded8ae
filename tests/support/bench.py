"""A bench for checks of real artifacts: three golden prompts, their reference, the command."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST, seal
from phiforge.artifact.record import read_record
from phiforge.offline import OFFLINE
from phiforge.settings.documents import read_yaml
from phiforge.settings.plan import row_settings
from phiforge.settings.settings import load
from support.checkout import ROOT
from validators.golden import load_golden

SOURCE = ROOT / "models/phi3-tiny"
ASKED = ("guide-introduction", "capital", "sum")
SETTINGS = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")


@dataclass(frozen=True)
class Bench:
    """Three golden prompts, their reference, and the command that a rule runs."""

    folder: Path
    golden: Path
    reference: Path

    def arguments(self, variant: str, row: str, artifact: Path, receipt: Path) -> list[str]:
        """The command line of a check of ``artifact`` as ``variant`` on ``row``."""
        block = SETTINGS.variants[variant]
        return [
            "--model", "phi3-tiny", "--variant", variant, "--row", row,
            "--row-config", json.dumps(row_settings(SETTINGS.devices[row], block)),
            "--variant-config", json.dumps(variant_block(variant)),
            "--artifact", str(artifact), "--reference", str(self.reference),
            "--golden", str(self.golden), "--acceptance", str(ROOT / "config/acceptance.yaml"),
            "--receipt", str(receipt),
        ]  # fmt: skip

    def check(
        self, variant: str, row: str, artifact: Path, *extra: str
    ) -> tuple[subprocess.CompletedProcess[str], dict[str, Any] | None]:
        """Run a check; its exit code and output, and the receipt if there is one."""
        receipt = self.folder / f"{variant}.{row}.{time.monotonic_ns()}.json"
        done = run("validators.check", *self.arguments(variant, row, artifact, receipt), *extra)
        return done, read_record(receipt) if receipt.exists() else None

    def failures(self, variant: str, row: str, artifact: Path, *extra: str) -> list[str]:
        """Names of the failures of a check that ends well."""
        done, receipt = self.check(variant, row, artifact, *extra)
        assert done.returncode == 0, done.stderr
        assert receipt is not None
        assert receipt["verdict"] == ("failed" if receipt["failures"] else "passed")
        return sorted({failure["name"] for failure in receipt["failures"]})


def run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        check=False,
    )


def variant_block(variant: str) -> Mapping[str, Any]:
    """What a check is told of a variant."""
    block = SETTINGS.variants[variant]
    return {
        "format": block.format,
        "precision": block.precision,
        "options": dict(block.options),
    }


def make_bench(folder: Path) -> Bench:
    """Ask the source three golden prompts."""
    document = yaml.safe_load((SOURCE / "golden.yaml").read_text(encoding="utf-8"))
    chosen = [prompt for prompt in document["prompts"] if prompt["id"] in ASKED]
    golden = folder / "golden.yaml"
    golden.write_text(yaml.safe_dump({"prompts": chosen}, allow_unicode=True), encoding="utf-8")
    assert len(load_golden(golden).prompts) == len(ASKED)
    reference = folder / "reference"
    done = run(
        "validators.reference",
        "--source", str(SOURCE), "--golden", str(golden), "--into", str(reference),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Bench(folder, golden, reference)


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
    seal(payload, {}, [])
