"""Take a snapshot of a release folder that `verify` and the configuration accept."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phiforge.artifact.file_lock import file_lock
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.scratch import scratch_folder
from phiforge.artifact.tree import files_under, link_or_copy, sha256_file
from phiforge.publish import PublishError
from phiforge.settings.config import Publish
from phiforge.trust.certificates import parse_subject, read_authorities
from phiforge.trust.keys import read_public
from phiforge.verify.revocations import REVOCATIONS
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify


@dataclass(frozen=True)
class File:
    """One file of a release: its path, its size in bytes and its hex SHA-256."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class ReleaseSnapshot:
    """A verified release.

    Attributes:
        artifact_sha256: names the payload's bytes.
        release_sha256: names every byte, evidence and card included; two releases with the same
            one are the same.
        files: name to file, names relative to the release's top.
    """

    model: str
    variant: str
    version: str
    channel: str
    artifact_sha256: str
    release_sha256: str
    files: Mapping[str, File]

    @property
    def name(self) -> str:
        """Name the release in messages."""
        return f"{self.model}/{self.variant} {self.version} ({self.channel})"


class RevokedError(PublishError):
    """The release was revoked, and nothing else speaks against it."""


@contextmanager
def publish_lock(release: Path, scratch: Path) -> Iterator[None]:
    """Hold the lock of a variant: one process at a time publishes it from here.

    Raises:
        PublishError: another process does.
    """
    with file_lock(
        scratch.with_name(f"{scratch.name}.lock"),
        busy=lambda holder: PublishError(
            f"is being published by another process ({holder})", where=release
        ),
    ):
        yield


@contextmanager
def release_snapshot(release: Path, publish: Publish, scratch: Path) -> Iterator[ReleaseSnapshot]:
    """Yield the release as it is now; the folder may change meanwhile.

    Args:
        release: ``artifacts/release/<model>/<variant>``, whose `publish_lock` the caller holds.
        scratch: the snapshot (hard links where possible) is taken beside it, until the end.

    Raises:
        RevokedError: it was revoked.
        PublishError: there is none, or the configuration does not let it through.
    """
    with scratch_folder(scratch) as folder:
        snapshot = folder / release.name
        _link(release, snapshot)
        yield _verified(snapshot, release, publish)


def _link(release: Path, snapshot: Path) -> None:
    """Link the release's files while no job replaces them (the lock of `fresh_tree`)."""
    if not (release / MANIFEST).is_file():
        raise PublishError("there is no release", where=release, remedy="run 'snakemake all'")
    with file_lock(release.with_name(f".{release.name}.lock"), shared=True):
        for name in files_under(release):
            link_or_copy(release / name, snapshot / name)


def _verified(snapshot: Path, release: Path, publish: Publish) -> ReleaseSnapshot:
    revocations = release.parent / REVOCATIONS
    stable = publish.channel == "stable"
    authorities = [one for path in publish.authorities for one in read_authorities(Path(path))]
    verification = verify(
        snapshot,
        Trust(
            tuple(read_public(Path(path)) for path in publish.keys),
            tuple(authorities),
            tuple(map(parse_subject, publish.subjects)),
        ),
        channel="stable" if stable else None,
        revocations=revocations if revocations.is_file() else None,
    )
    name = f"{verification.model}/{verification.variant}"
    refusals = [finding for finding in verification.findings if finding.refuses]
    if refusals and all(finding.name == "revoked-version" for finding in refusals):
        raise RevokedError(f"{name} {verification.version} was revoked")
    if refusals:
        raise PublishError(
            f"verify refuses it: {'; '.join(finding.line() for finding in refusals)}",
            where=release,
            remedy="repair what it names" + (", or lower 'publish.channel'" if stable else ""),
        )
    if verification.added:
        raise PublishError(
            f"holds files that are not the release's: {', '.join(verification.added[:3])}",
            where=release,
            remedy="remove them; only a release's own files are published",
        )
    expected = f"{release.parent.name}/{release.name}"
    if name != expected:
        raise PublishError(
            "is the release of something else", where=release, expected=expected, found=name
        )
    files = {}
    for path in files_under(snapshot):
        file = snapshot / path
        files[path.as_posix()] = File(file, file.stat().st_size, sha256_file(file))
    listing = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(files.items()))
    return ReleaseSnapshot(
        verification.model,
        verification.variant,
        verification.version,
        verification.channel,
        verification.artifact_sha256,
        hashlib.sha256(listing.encode()).hexdigest(),
        files,
    )
