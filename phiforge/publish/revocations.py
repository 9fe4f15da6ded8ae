"""Keep the revocations of a variant where it is published: signed records, which are never lost.

A destination's list only grows: what it holds stays, and what is revoked here joins it. It is read
as any reader does, every signature checked, and has the form that `verify` reads.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.publish import PublishError
from phiforge.publish.snapshot import ReleaseSnapshot
from phiforge.trust import TrustError
from phiforge.verify.revocations import (
    REVOCATIONS,
    SCHEMA,
    Revocation,
    parse_revocations,
    read_revocations,
    revocations_in,
)


class RevocationList:
    """A destination's revocations of one variant, joined by those of this machine.

    Attributes:
        records: the destination's first; one that was signed again is another record.
        changed: whether the destination lacks some of them.

    Raises:
        PublishError: ``data`` is not a list of revocations.
    """

    def __init__(
        self, name: str, local: tuple[Revocation, ...], data: bytes | None, where: str
    ) -> None:
        self._name, self._where = name, where
        published: tuple[Revocation, ...] = ()
        if data is not None:
            remedy = "restore the file there; nothing is published over it"
            published = _read(name, lambda: parse_revocations(data, REVOCATIONS), where, remedy)
        self.records = (*published, *(one for one in local if one not in published))
        self.changed = self.records != published

    @property
    def summary(self) -> str:
        """What is revoked, in one line."""
        versions = ", ".join(dict.fromkeys(one.version for one in self.records))
        return f"the revocation of {self._name} {versions}"

    def encode(self) -> bytes:
        """Write the list as a file."""
        keys = {one.keyid: one.public_pem for one in self.records}
        envelopes = [one.envelope for one in self.records]
        return canonical({"schema": SCHEMA, "keys": keys, "revocations": envelopes}).encode()

    def find(self, version: str, artifact_sha256: str) -> Revocation | None:
        """Find the first revocation of a version or of its bytes."""
        concerned = (
            one for one in self.records if one.concerns(self._name, version, artifact_sha256)
        )
        return next(concerned, None)

    def refuse(self, release: ReleaseSnapshot) -> None:
        """Refuse a release that is in the list: another machine may have revoked it.

        Raises:
            PublishError: it is.
        """
        revocation = self.find(release.version, release.artifact_sha256)
        if revocation is None:
            return
        what = f"version {release.version}"
        if revocation.version != release.version:
            what += f" has the bytes of {revocation.version}, which"
        raise PublishError(
            f"{what} was revoked there: {revocation.reason}",
            where=self._where,
            remedy="copy that revocations.json to here, raise 'version' in config/config.yaml and"
            " build other bytes",
        )


def local_revocations(model_folder: Path, variant: str) -> tuple[Revocation, ...]:
    """Read the variant's revocations in ``artifacts/release/<model>/revocations.json``.

    Raises:
        PublishError: it is not a list of revocations.
    """
    path = model_folder / REVOCATIONS
    if not path.exists():
        return ()
    remedy = "restore the file; a revocation that is lost here protects nobody"
    return _read(f"{model_folder.name}/{variant}", lambda: read_revocations(path), path, remedy)


def _read(
    name: str, read: Callable[[], Mapping[str, Any]], where: str | Path, remedy: str
) -> tuple[Revocation, ...]:
    try:
        return tuple(one for one in revocations_in(read(), REVOCATIONS) if one.name == name)
    except TrustError as error:
        raise PublishError(
            f"is no list of revocations ({error.name}: {error.what})",
            where=where,
            remedy=remedy,
        ) from None
