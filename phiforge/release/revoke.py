"""Take a version back: a signed statement that travels, and an entry in the ledger that stays."""

from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record, write_record
from phiforge.release.signing import ReleaseKey
from phiforge.release.versions import VersionError, ledger_lock, record_version, versions_of
from phiforge.trust.statement import ATTRIBUTE_REPORT, statement
from phiforge.verify.revocations import REVOCATIONS, REVOKED, SCHEMA


def revoke(model_folder: Path, variant: str, version: str, reason: str, key: ReleaseKey) -> Path:
    """Revoke a version of ``model_folder`` (``artifacts/release/<model>``); the list's path.

    The release stays where it is: ``verify`` refuses it from now on, here and wherever the list
    is sent. A second revocation of one version changes nothing.

    Raises:
        VersionError: there is no such version.
    """
    path = model_folder / REVOCATIONS
    with ledger_lock(model_folder):
        known = versions_of(model_folder, variant)
        if version not in known:
            raise VersionError(
                f"there is no version {version} of {model_folder.name}/{variant}",
                where=model_folder,
                expected=", ".join(sorted(known)) or "a version that was released",
                found=version,
                remedy="revoke a version that was released here",
            )
        listed: dict[str, Any] = {"schema": SCHEMA, "keys": {}, "revocations": []}
        if path.is_file():
            listed = read_record(path)
        if known[version]["revoked"] is None:
            artifact = known[version]["artifact_sha256"]
            listed["keys"][key.keyid] = key.public_pem
            listed["revocations"].append(
                key.sign_statement(
                    _statement(f"{model_folder.name}/{variant}", version, artifact, reason)
                )
            )
            # The list first: a kill in between leaves it to be revoked twice, never not at all.
            write_record(path, listed)
            record_version(model_folder, variant, version, artifact, revoked=reason)
    return path


def _statement(name: str, version: str, artifact_sha256: str, reason: str) -> dict[str, Any]:
    conditions = {"version": version, "reason": reason}
    return statement(
        {name: artifact_sha256},
        ATTRIBUTE_REPORT,
        {"attributes": [{"attribute": REVOKED, "conditions": conditions}]},
    )
