"""Hold the revocations of a variant, as signed records that a destination keeps and never loses.

A destination's list only grows: what it holds stays, and what is revoked here joins it. It is read
as any reader does, every signature checked, and has the form that `verify` reads.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def local_revocations(model_folder: Path, variant: str) -> Revocations:
    """Read the variant's revocations in ``artifacts/release/<model>/revocations.json``.

    Raises:
        PublishError: the list is not one.
    """
    path = model_folder / REVOCATIONS
    if not path.exists():
        return ()
    with _refused(path, "restore the file; a revocation that is lost here protects nobody"):
        listed = revocations_in(read_revocations(path), REVOCATIONS)
        return tuple(one for one in listed if one.name == f"{model_folder.name}/{variant}")


def parse_published(data: bytes | None, name: str, where: str) -> Revocations:
    """Parse what a destination holds of ``name`` (``<model>/<variant>``); None: no list.

    Raises:
        PublishError: it is not what phiforge writes there.
    """
    if data is None:
        return ()
    with _refused(where, "restore the file there; nothing is published over it"):
        listed = revocations_in(parse_revocations(data, REVOCATIONS), REVOCATIONS)
        return tuple(one for one in listed if one.name == name)


def merge(published: Revocations, local: Revocations) -> Revocations:
    """Append the local records that are not published; one that was signed again is another."""
    return (*published, *(one for one in local if one not in published))


def encode(revocations: Revocations) -> bytes:
    """Write the list as a file."""
    keys = {one.keyid: one.public_pem for one in revocations}
    envelopes = [one.envelope for one in revocations]
    return canonical({"schema": SCHEMA, "keys": keys, "revocations": envelopes}).encode()


def versions_of(revocations: Revocations) -> str:
    """List the versions that are revoked, for messages."""
    return ", ".join(dict.fromkeys(one.version for one in revocations))


def find_revocation(
    revocations: Revocations, name: str, version: str, artifact_sha256: str
) -> Revocation | None:
    """Find the first revocation of a release; None: it is not revoked."""
    return next((one for one in revocations if one.concerns(name, version, artifact_sha256)), None)


def refuse_revoked(
    revocations: Revocations, name: str, version: str, artifact_sha256: str, where: str
) -> None:
    """Refuse a release that a destination's own list revokes: another machine may have done so.

    Raises:
        PublishError: the release was revoked.
    """
    found = find_revocation(revocations, name, version, artifact_sha256)
    if found is not None:
        what = f"version {version} was revoked there"
        if found.version != version:
            what = f"version {version} has the bytes of {found.version}, which was revoked there"
        raise PublishError(
            f"{what}: {found.reason}",
            where=where,
            remedy="copy that revocations.json to here, raise 'version' in config/config.yaml and"
            " build other bytes",
        )


@contextmanager
def _refused(where: Path | str, remedy: str) -> Iterator[None]:
    try:
        yield
    except Refusal as refusal:
        raise PublishError(
            f"is no list of revocations ({refusal.finding.name}: {refusal.finding.what})",
            where=where,
            remedy=remedy,
        ) from None
