"""Pack what travels to a device elsewhere: one check, its files named by their SHA-256.

The layout is the same on a lab host and in a courier's zip::

    JOB.json            the job of the check, and every other file's digest
    code/               the validators with all that they import
    golden.yaml  acceptance.yaml  reference/
    payload/            the artifact
    device.lock         the locked environment that runs it
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import read_checksums
from phiforge.artifact.payload_files import TOKENIZER
from phiforge.artifact.record import canonical
from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.jobs import KIT_SCHEMA, Check
from phiforge.remote import RunnerError
from phiforge.settings.modules import module_files
from validators.check import CheckFiles
from validators.code_digest import check_modules, validator_digest
from validators.golden import load_golden
from validators.reference_tree import RECORD, SCORES

JOB = "JOB.json"
PAYLOAD = "payload/"
OUT = "out"
PYTHON = (3, 11)


@dataclass(frozen=True)
class KitFile:
    """One file: its name in the kit, its SHA-256 and size in bytes, and where it is now."""

    name: str
    sha256: str
    size: int
    source: Path


@dataclass(frozen=True)
class Kit:
    """A check and its files.

    Attributes:
        job: what JOB.json says.
        files: all but JOB.json, by name.
        expects: what the receipt must say of itself to be this job's.
    """

    job: Mapping[str, Any]
    files: tuple[KitFile, ...]
    expects: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Model, variant and row, for messages."""
        return str(self.job["title"])

    def job_json(self) -> str:
        """Return JOB.json, the same text for the same job."""
        return canonical(self.job)


def make_kit(job: Check, files: CheckFiles, *, lock: Path | None, time_limit_s: float) -> Kit:
    """Pack a check with all that it reads.

    Args:
        lock: the device's locked environment.
        time_limit_s: a check that takes longer is ended.

    Raises:
        RunnerError: the payload is missing, or the row names no environment.
    """
    if lock is None:
        raise RunnerError(
            "no-lock",
            f"row '{job.row.name}' names no locked environment for this artifact's format",
            where="config/devices.yaml",
            remedy="add 'lock:' to the row's runtime (docs/devices.md)",
        )
    packed = tuple(sorted(_files(job, files, lock), key=lambda file: file.name))
    document = {
        "schema": KIT_SCHEMA,
        "title": f"{job.model} {job.variant} on {job.row.name}",
        "check": asdict(job),
        "result": f"{job.model}.{job.variant}.{job.row.name}.receipt.zip",
        "executes": job.row.executes,
        "python": ".".join(map(str, PYTHON)),
        "module": "phiforge",
        "arguments": [
            "check-here", f"../{JOB}",
            "--artifact", "..", "--reference", "../reference",
            "--golden", "../golden.yaml", "--acceptance", "../acceptance.yaml",
            "--time-limit-s", str(time_limit_s),
            "--receipt", f"../{OUT}/{job.row.name}.json",
        ],
        "files": {file.name: {"sha256": file.sha256, "size": file.size} for file in packed},
    }  # fmt: skip
    return Kit(document, packed, expectations(job, files))


def expectations(job: Check, files: CheckFiles) -> dict[str, Any]:
    """Return what a receipt must say to be of this artifact, this row and these validators.

    Raises:
        RunnerError: the payload is missing.
    """
    return {
        "model": job.model,
        "variant": job.variant,
        "device": job.row.name,
        "kind": job.row.kind,
        "stands_for": job.row.stands_for,
        "format": job.recipe.format,
        "precision": job.recipe.precision,
        "runtime": job.row.runtime,
        "settings": job.row.settings,
        "synthetic": job.synthetic,
        "runner": job.row.runner,
        "artifact_sha256": sha256_file(_checksums(files.artifact)),
        "reference_sha256": sha256_file(files.reference / RECORD),
        "golden_sha256": load_golden(files.golden).digest,
        "acceptance_sha256": sha256_file(files.acceptance),
        "validator_sha256": validator_digest(job.row.runtime),
    }


def _checksums(artifact: Path) -> Path:
    path = artifact / "payload" / CHECKSUMS
    if not path.is_file():
        raise RunnerError(
            "no-payload", "no artifact to check", where=path, remedy="build the variant"
        )
    return path


def _files(job: Check, files: CheckFiles, lock: Path) -> Iterator[KitFile]:
    commands = ("phiforge.__main__", "phiforge.trust.new_key")
    for name in module_files(*check_modules(job.row.runtime), *commands):
        yield kit_file(f"code/{name}", ROOT / name)
    for name in (RECORD, SCORES, TOKENIZER):
        yield kit_file(f"reference/{name}", files.reference / name)
    yield kit_file("golden.yaml", files.golden)
    yield kit_file("acceptance.yaml", files.acceptance)
    yield kit_file("device.lock", lock)
    sums = _checksums(files.artifact)
    yield kit_file(f"{PAYLOAD}{CHECKSUMS}", sums)
    for name, digest in read_checksums(sums.parent).items():
        path = sums.parent / name
        if not path.is_file():
            raise RunnerError(
                "no-payload", "payload file is missing", where=path, remedy="build the variant"
            )
        # The payload's own digest: the device verifies every byte against it.
        yield KitFile(f"{PAYLOAD}{name}", digest, path.stat().st_size, path)


def kit_file(name: str, path: Path) -> KitFile:
    """Describe a file as it is on the disk now."""
    return KitFile(name, sha256_file(path), path.stat().st_size, path)
