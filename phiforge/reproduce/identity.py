"""Two builds of one variant, byte by byte; the verdict is a record."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import read_checksums, verify
from phiforge.artifact.record import read_record, write_record
from phiforge.errors import PhiforgeError
from phiforge.reproduce.attest import attest
from phiforge.reproduce.rebuild import CONDITIONS
from phiforge.reproduce.tensors import differing_tensors

SCHEMA = "phiforge/reproduction/1"
_NAMED = 20


class IdentityError(PhiforgeError):
    """A variant was not reproduced to the same bytes."""


def compare(build: Path, rebuilt: Path, into: Path) -> None:
    """Write the verdict on the builds whose BUILD.json these are.

    Raises:
        PayloadError: a payload is not what its own checksums say.
    """
    first, second = build.parent / "payload", rebuilt.parent / "payload"
    names = {"artifact_sha256": verify(first), "rebuilt_sha256": verify(second)}
    files = _differing_files(read_checksums(first), read_checksums(second))
    tensors = differing_tensors(first, second, files) if files else []
    facts = read_record(build)
    write_record(
        into,
        {
            "schema": SCHEMA,
            "model": facts["model"],
            "variant": facts["variant"],
            **names,
            "verdict": "different" if files else "identical",
            "differing_files": files,
            "differing_tensors": tensors[:_NAMED],
            "differing_tensors_count": len(tensors),
            "conditions": read_record(rebuilt.parent / CONDITIONS),
        },
    )


def _differing_files(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    names = sorted((one.keys() | other.keys()) - {CHECKSUMS})
    return [name for name in names if one.get(name) != other.get(name)]


def require(records: Sequence[Path], releases: Path) -> None:
    """Say of every record what it found; what is identical becomes evidence of its release.

    Args:
        releases: ``artifacts/release``.

    Raises:
        IdentityError: naming each variant that differs, and where.
    """
    different = []
    for path in records:
        record: dict[str, Any] = read_record(path)
        name = f"{record['model']} {record['variant']}"
        identical = record["verdict"] == "identical"
        told = attest(path, releases) if identical else "see the record"
        print(f"{name}: {record['verdict']} ({record['artifact_sha256'][:12]}), {told}")
        if not identical:
            where = ", ".join(record["differing_tensors"][:3] or record["differing_files"][:3])
            different.append(f"{name} (first: {where})")
    if different:
        raise IdentityError(
            f"{len(different)} of {len(records)} were not reproduced: {'; '.join(different)}",
            expected="the same bytes under other circumstances",
            remedy="read artifacts/reproduced/ for every file and tensor",
        )
