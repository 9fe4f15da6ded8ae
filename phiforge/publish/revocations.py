"""What was taken back of a variant, as signed records that a destination keeps and never loses.

A destination's list only grows: what it holds stays, and what is revoked here joins it. It is read
as any reader does, every signature checked, and has the form that `verify` reads.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.publish.policy import PublishError
from phiforge.verify.findings import Refusal
from phiforge.verify.revocations import (
    REVOCATIONS,
    SCHEMA,
    Revocation,
    parse_revocations,
    read_revocations,
    revocations_in,
)

Revocations = tuple[Revocation, ...]


def standing(model_folder: Path, variant: str) -> Revocations:
    """The variant's revocations in ``artifacts/release/<model>/revocations.json``, oldest first.

    Raises:
        PublishError: the list is not one.
    """
    path = model_folder / REVOCATIONS
    if not path.is_file():
        return ()
    try:
        return _of(read_revocations(path), f"{model_folder.name}/{variant}")
    except Refusal as refusal:
        raise PublishError(
            f"is no list of revocations ({refusal.finding.name}: {refusal.finding.what})",
            where=path,
            remedy="restore the file; a revocation that is lost here protects nobody",
        ) from None


def published(data: bytes, name: str, where: str) -> Revocations:
    """The revocations that a destination holds of ``name`` (``<model>/<variant>``).

    Raises:
        PublishError: they are not what phiforge writes there.
    """
    try:
        return _of(parse_revocations(data, REVOCATIONS), name)
    except Refusal as refusal:
        raise PublishError(
            f"is no list of revocations ({refusal.finding.name}: {refusal.finding.what})",
            where=where,
            remedy="restore the file there; nothing is published over it",
        ) from None


def _of(listed: Mapping[str, Any], name: str) -> Revocations:
    return tuple(one for one in revocations_in(listed, REVOCATIONS) if one.name == name)


def joined(there: Revocations, ours: Revocations) -> Revocations:
    """What is there, and what of ours is not."""
    return (*there, *(one for one in ours if one not in there))


def document(revocations: Revocations) -> bytes:
    """The list as a file."""
    keys = {one.keyid: one.public_pem for one in revocations}
    envelopes = [one.envelope for one in revocations]
    return canonical({"schema": SCHEMA, "keys": keys, "revocations": envelopes}).encode()


def revoking(
    revocations: Revocations, name: str, version: str, artifact_sha256: str
) -> Revocation | None:
    """The first that takes this release back; None: it stands."""
    return next((one for one in revocations if one.concerns(name, version, artifact_sha256)), None)


def refuse_revoked(
    revocations: Revocations, name: str, version: str, artifact_sha256: str, where: str
) -> None:
    """A destination's own list counts too: another machine may have revoked what stands here.

    Raises:
        PublishError: the release was taken back.
    """
    found = revoking(revocations, name, version, artifact_sha256)
    if found is not None:
        what = f"version {version} was revoked there"
        if found.version != version:
            what = f"version {version} has the bytes of {found.version}, which was revoked there"
        raise PublishError(
            f"{what}: {found.reason}",
            where=where,
            remedy="bring that revocations.json here, raise 'version' in config/config.yaml and"
            " build other bytes",
        )
