"""Revoke a released version: sign a statement that travels, and enter it into the ledger.

The release key signs: the one that the configuration names (signing: key:), or the variable
PHIFORGE_SIGNING_KEY.
"""

import argparse
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record, write_record
from phiforge.release.signing import ReleaseKey, release_key
from phiforge.release.versions import VersionError, ledger_lock, record_version, versions_of
from phiforge.settings.command_line import add_configuration, configuration, split_name
from phiforge.settings.settings import load
from phiforge.trust.document import parse_record
from phiforge.trust.keys import SIGNING_KEY
from phiforge.trust.statement import ATTRIBUTE_REPORT, statement
from phiforge.verify.revocations import REVOCATIONS, REVOKED, SCHEMA, revocations_in
from phiforge.verify.trust import RELEASE, ReleaseRecord


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("release", metavar="MODEL/VARIANT", help="the release")
    parser.add_argument("version", metavar="VERSION", help="the version to revoke")
    parser.add_argument("--reason", required=True, help="why, for everyone who has it")
    parser.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> None:
    model, variant = split_name(arguments.release)
    key = release_key(load(configuration(arguments)).signing.plain())
    folder = arguments.root / "release" / model
    path = revoke(folder, variant, arguments.version, arguments.reason, key)
    print(
        f"revoked: {arguments.release} {arguments.version}; send {path} to who has it, and run"
        " 'snakemake publish' if it was published"
    )


def revoke(model_folder: Path, variant: str, version: str, reason: str, key: ReleaseKey) -> Path:
    """Revoke a version of ``model_folder`` (``artifacts/release/<model>``); return the list's path.

    The release stays where it is: `verify` refuses it from now on, here and wherever the list is
    sent. A second revocation by the same key changes nothing; one by another key takes the
    first's place.

    Raises:
        VersionError: there is no such version; or the variant's release was signed with a release
            key, and ``key`` is an ephemeral one, whose word nobody can place.
    """
    path = model_folder / REVOCATIONS
    name = f"{model_folder.name}/{variant}"
    with ledger_lock(model_folder):
        known = versions_of(model_folder, variant)
        if version not in known:
            raise VersionError(
                f"there is no version {version} of {name}",
                where=model_folder,
                expected=", ".join(sorted(known)) or "a version that was released",
                found=version,
                remedy="revoke a version that was released here",
            )
        if key.ephemeral and _has_release_key(model_folder / variant / RELEASE):
            raise VersionError(
                f"{name} is signed with a release key, and no release key is named to revoke it",
                where=model_folder,
                remedy=f"name its file in the variable {SIGNING_KEY} or in the configuration "
                "(signing: key:)",
            )
        listed: dict[str, Any] = {"schema": SCHEMA, "keys": {}, "revocations": []}
        if path.is_file():
            listed = read_record(path)
        earlier = [
            one
            for one in revocations_in(listed, str(path))
            if (one.name, one.version) == (name, version)
        ]
        artifact = known[version]["artifact_sha256"]
        if not earlier or (not key.ephemeral and key.keyid not in {one.keyid for one in earlier}):
            others = [
                envelope
                for envelope in listed["revocations"]
                if envelope not in [one.envelope for one in earlier]
            ]
            report = _report(name, version, artifact, reason)
            listed["keys"][key.keyid] = key.public_pem
            listed["revocations"] = [*others, key.sign_statement(report)]
            # The list first: who repeats what a kill cut off enters it into the ledger.
            write_record(path, listed)
        elif known[version]["revoked"] is None:
            reason = earlier[0].reason
        else:
            return path
        record_version(model_folder, variant, version, artifact, revoked=reason)
    return path


def _has_release_key(record: Path) -> bool:
    """Whether the release whose record this is was signed with a key that lasts."""
    if not record.is_file():
        return False
    return not parse_record(ReleaseRecord, record.read_bytes(), str(record)).signer.ephemeral


def _report(name: str, version: str, artifact_sha256: str, reason: str) -> dict[str, Any]:
    conditions = {"version": version, "reason": reason}
    return statement(
        {name: artifact_sha256},
        ATTRIBUTE_REPORT,
        {"attributes": [{"attribute": REVOKED, "conditions": conditions}]},
    )
