"""Compare two builds of one variant, byte by byte, and write the verdict."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import read_checksums, verify
from phiforge.artifact.record import read_record, write_record
from phiforge.reproduce.rebuild import CONDITIONS
from phiforge.reproduce.tensors import differing_tensors

SCHEMA = "phiforge/reproduction/1"
_NAMED = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--build", required=True, type=Path, help="BUILD.json of the first")
    parser.add_argument("--rebuilt", required=True, type=Path, help="BUILD.json of the second")
    parser.add_argument("--into", required=True, type=Path, help="the record")


def run(arguments: argparse.Namespace) -> None:
    compare(arguments.build, arguments.rebuilt, arguments.into)


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


def _differing_files(left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    names = sorted((left.keys() | right.keys()) - {CHECKSUMS})
    return [name for name in names if left.get(name) != right.get(name)]
