"""What travels to a device that is elsewhere: one job, its files named by their SHA-256.

The layout is the same on a lab host and in a courier's zip::

    JOB.json            what is to be done, and every other file's digest
    code/               the validators with all that they import, and their schemas
    golden.yaml  acceptance.yaml  reference/
    payload/            the artifact
    device.lock         the locked environment that runs it
"""

import hashlib
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import read_checksums
from phiforge.artifact.payload_files import TOKENIZER
from phiforge.artifact.record import canonical
from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.remote import RunnerError
from phiforge.settings.modules import module_files
from validators.code_digest import check_modules, validator_digest
from validators.golden import load_golden
from validators.reference_tree import RECORD, SCORES

SCHEMA = "phiforge/job/1"
JOB = "JOB.json"
PAYLOAD = "payload/"
OUT = "out"
PYTHON = (3, 11)


@dataclass(frozen=True)
class KitFile:
    """One file: its name in the kit, its digest and size, and where it is here."""

    name: str
    sha256: str
    size: int
    source: Path


@dataclass(frozen=True)
class Kit:
    """A job and its files.

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
        return str(self.job["title"])


def make_kit(options: Namespace, *, runner: str, lock: Path) -> Kit:
    """The kit of a check.

    Args:
        options: of `validators.check`.
        runner: ``ssh`` or ``courier``; the receipt will say so.
        lock: the device's locked environment.

    Raises:
        RunnerError: the payload is not there.
    """
    row = json.loads(options.row_config)
    files = tuple(sorted(_files(options, row["module"], lock), key=lambda file: file.name))
    job = {
        "schema": SCHEMA,
        "title": f"{options.model} {options.variant} on {options.row}",
        "module": "validators.check",
        "result": f"{options.model}.{options.variant}.{options.row}.receipt.zip",
        "executes": row["executes"],
        "python": ".".join(map(str, PYTHON)),
        "arguments": _arguments(options, runner),
        "files": {file.name: {"sha256": file.sha256, "size": file.size} for file in files},
    }
    return Kit(job, files, expectations(options, runner))


def _arguments(options: Namespace, runner: str) -> list[str]:
    """Of the job's module, run in the kit's ``code/``."""
    row = {**json.loads(options.row_config), "runner": runner}
    return [
        "--model", options.model, "--variant", options.variant,
        "--row", options.row, "--row-config", json.dumps(row, sort_keys=True),
        "--variant-config", options.variant_config,
        "--artifact", "..", "--reference", "../reference",
        "--golden", "../golden.yaml", "--acceptance", "../acceptance.yaml",
        "--overrides", options.overrides,
        *(["--synthetic"] if options.synthetic else []),
        "--time-limit-s", str(options.time_limit_s),
        "--receipt", f"../{OUT}/{options.row}.json",
    ]  # fmt: skip


def expectations(options: Namespace, runner: str) -> dict[str, Any]:
    """What a receipt must say to be of this artifact, this row and these validators.

    Raises:
        RunnerError: the payload is not there.
    """
    row = json.loads(options.row_config)
    variant = json.loads(options.variant_config)
    return {
        "model": options.model,
        "variant": options.variant,
        "device": options.row,
        "kind": row["kind"],
        "standin_for": row["standin_for"],
        "format": variant["format"],
        "precision": variant["precision"],
        "runtime": row["module"],
        "settings": row["settings"],
        "synthetic": options.synthetic,
        "runner": runner,
        "artifact_sha256": sha256_file(_checksums(options.artifact)),
        "reference_sha256": sha256_file(options.reference / RECORD),
        "golden_sha256": load_golden(options.golden).digest,
        "acceptance_sha256": sha256_file(options.acceptance),
        "validator_sha256": validator_digest(row["module"]),
    }


def _checksums(artifact: Path) -> Path:
    path = artifact / "payload" / CHECKSUMS
    if not path.is_file():
        raise RunnerError(
            "no-payload", "there is no artifact to check", where=path, remedy="build the variant"
        )
    return path


def _files(options: Namespace, module: str, lock: Path) -> Iterator[KitFile]:
    for name in code_files(module):
        yield kit_file(f"code/{name}", ROOT / name)
    for name in (RECORD, SCORES, TOKENIZER):
        yield kit_file(f"reference/{name}", options.reference / name)
    yield kit_file("golden.yaml", options.golden)
    yield kit_file("acceptance.yaml", options.acceptance)
    yield kit_file("device.lock", lock)
    sums = _checksums(options.artifact)
    yield kit_file(f"{PAYLOAD}{CHECKSUMS}", sums)
    for name, digest in read_checksums(sums.parent).items():
        path = sums.parent / name
        if not path.is_file():
            raise RunnerError(
                "no-payload", "payload file is missing", where=path, remedy="build the variant"
            )
        # The seal's digest: the device holds every byte against it.
        yield KitFile(f"{PAYLOAD}{name}", digest, path.stat().st_size, path)


def code_files(module: str) -> list[str]:
    """The files of ``code/``: modules, what lies beside the validators, schemas, and new-key."""
    modules = module_files(*check_modules(module), "phiforge.trust.__main__")
    folders = {Path(name).parent for name in modules if name.startswith("validators/")}
    beside = {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    schemas = (ROOT / "config/schemas").glob("*.schema.json")
    return sorted({*modules, *beside, *(path.relative_to(ROOT).as_posix() for path in schemas)})


def kit_file(name: str, path: Path) -> KitFile:
    """A file as it is here now."""
    return KitFile(name, sha256_file(path), path.stat().st_size, path)


def job_bytes(kit: Kit) -> bytes:
    """JOB.json, the same bytes for the same job."""
    return canonical(kit.job).encode()


def kit_sha256(kit: Kit) -> str:
    """The digest that names a job and, through its files' digests, all that belongs to it."""
    return hashlib.sha256(job_bytes(kit)).hexdigest()
