"""Require that every second build is the same bytes, and make that evidence of the releases.

The evidence is a signed statement in each release folder, beside the others.
"""

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import canonical, read_record, write_into
from phiforge.artifact.tree import sha256_file
from phiforge.errors import PhiforgeError
from phiforge.release.signing import ReleaseKey, release_key
from phiforge.trust.keys import SIGNING
from phiforge.trust.statement import TEST_RESULT, statement

EVIDENCE = "evidence/reproduce.dsse.json"


class IdentityError(PhiforgeError):
    """A variant was not reproduced to the same bytes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", nargs="+", type=Path, help="records of 'compare'")
    parser.add_argument(
        "--releases", type=Path, default=Path("artifacts/release"), help="releases to add it to"
    )


def run(arguments: argparse.Namespace) -> None:
    assert_reproduced(arguments.records, arguments.releases)


def assert_reproduced(records: Sequence[Path], releases: Path) -> None:
    """Print each record's verdict; what is identical becomes evidence of its release.

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
        outcome = attest(path, releases) if identical else "see the record"
        print(f"{name}: {record['verdict']} ({record['artifact_sha256'][:12]}), {outcome}")
        if not identical:
            where = ", ".join(record["differing_tensors"][:3] or record["differing_files"][:3])
            different.append(f"{name} (first: {where})")
    if different:
        raise IdentityError(
            f"{len(different)} of {len(records)} were not reproduced: {'; '.join(different)}",
            expected="the same bytes under other circumstances",
            remedy="read artifacts/reproduced/ for every file and tensor",
        )


def attest(record_path: Path, releases: Path) -> str:
    """Add the statement to the release that ``record_path`` is about; return what was done.

    A statement needs the key that signed the release: an ephemeral one is gone, and a stranger's
    would make the release refuse itself.

    Args:
        record_path: a record of `phiforge.reproduce.identity.compare` that says ``identical``.
        releases: ``artifacts/release``.
    """
    record = read_record(record_path)
    release = releases / record["model"] / record["variant"]
    sums = release / CHECKSUMS
    if not sums.is_file() or sha256_file(sums) != record["artifact_sha256"]:
        return "no release of these bytes"
    key = release_key(json.loads(os.environ.get(SIGNING, "{}")))
    signer = read_record(release / "evidence/release.json")["signer"]
    if key.ephemeral or signer["keyid"] != key.keyid:
        return "not in the release's evidence: its release key is not here"
    write_into(release, EVIDENCE, canonical(_signed(record, record_path, key)))
    return "in the release's evidence"


def _signed(record: Mapping[str, Any], path: Path, key: ReleaseKey) -> dict[str, Any]:
    conditions = record["conditions"]
    return key.sign_statement(
        statement(
            {f"{record['model']}/{record['variant']}": record["artifact_sha256"]},
            TEST_RESULT,
            {
                "result": "PASSED",
                "configuration": [
                    {
                        "name": "reproduced.json",
                        "digest": {"sha256": sha256_file(path)},
                        "mediaType": "application/json",
                        "annotations": {
                            "another": conditions["another"],
                            "environment": conditions["environment"],
                        },
                    }
                ],
                "passedTests": ["the same bytes from a second build"],
                "failedTests": [],
            },
        )
    )
