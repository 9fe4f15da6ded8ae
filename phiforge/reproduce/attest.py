"""What was reproduced becomes evidence of the release: a signed statement beside the others."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.release.signing import ReleaseKey, release_key
from phiforge.trust.keys import SIGNING
from phiforge.trust.statement import TEST_RESULT, statement

EVIDENCE = "evidence/reproduce.dsse.json"


def attest(record_path: Path, releases: Path) -> str:
    """Add the statement to the release that ``record_path`` is about; say what was done.

    A statement needs the key that signed the release: one made for the occasion is gone, and a
    stranger's would make the release refuse itself.

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
    if key.occasional or signer["keyid"] != key.keyid:
        return "not in the release's evidence: its release key is not here"
    write_record(release / EVIDENCE, _signed(record, record_path, key))
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
