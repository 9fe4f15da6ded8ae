"""Keep the predictions of an artifact's own weights: all its rows are held to the same ones.

``artifacts/predictions/<model>/<variant>/`` holds

- ``predictions.safetensors``: of each prompt, by id, the fields of a `TopKDistribution`;
- ``PREDICTIONS.json``: what they follow from, with what they were made, and their digest.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.file_lock import file_lock
from phiforge.artifact.origin import read_origin
from phiforge.artifact.record import RecordError, read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import Limits
from phiforge.settings.modules import made_with, pinned_toolchain
from validators.left_out import left_out

RECORD, SCORES = "PREDICTIONS.json", "predictions.safetensors"
MODULES = ("validators.execution_worker",)


def follow_from(
    payload: Path, recipe: Mapping[str, Any], source: Path, reference: Path, limits: Limits
) -> dict[str, Any]:
    """Name all that shapes the predictions of an artifact's weights.

    Args:
        recipe: ``format`` and ``options`` are read.
        source: the model's files.
        reference: REFERENCE.json.
        limits: what leaves golden prompts out.
    """
    return {
        "artifact_sha256": sha256_file(payload / CHECKSUMS),
        "config_sha256": sha256_file(source / "config.json"),
        "reference_sha256": sha256_file(reference),
        "left_out": sorted(left_out(read_record(reference), limits)),
        "format": recipe["format"],
        "options": recipe["options"],
        "made_with": made_with(MODULES, MODULES),
    }


def alone(folder: Path) -> AbstractContextManager[None]:
    """Wait until no other job makes or takes what belongs into ``folder``."""
    return file_lock(folder.with_name(f".{folder.name}.predictions.lock"))


def write_facts(folder: Path, basis: Mapping[str, Any]) -> None:
    """Write PREDICTIONS.json beside the scores.

    Args:
        basis: of `follow_from`.
    """
    record = {
        "follow_from": basis,
        "files": {SCORES: sha256_file(folder / SCORES)},
        "toolchain": {name: version(name) for name in pinned_toolchain(*MODULES)},
    }
    write_record(folder / RECORD, record)


def are_kept(folder: Path, basis: Mapping[str, Any]) -> bool:
    """Return whether predictions that follow from ``basis`` are in ``folder``, undamaged."""
    with suppress(RecordError, LookupError, TypeError, OSError):
        record = read_record(folder / RECORD)
        found = sha256_file(folder / SCORES)
        return bool(record["follow_from"] == basis and record["files"] == {SCORES: found})
    return False


def maker(folder: Path) -> str | None:
    """Name the agent whose predictions were taken from a shared cache; None: made here."""
    origin = read_origin(folder / RECORD)
    return None if origin is None else f"{origin['builder']} (key {origin['keyid'][:16]}…)"
