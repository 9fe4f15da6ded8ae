"""A release that may leave: a snapshot of its folder that `verify` has accepted."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from phiforge.artifact.file_lock import file_lock
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.tree import files_under, link_or_copy, remove_tree, sha256_file
from phiforge.publish.policy import Policy, PublishError
from phiforge.verify.certificates import read_certificates
from phiforge.verify.revocations import REVOCATIONS
from phiforge.verify.signatures import read_key
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify


@dataclass(frozen=True)
class File:
    """One file of a release: where it lies, its size in bytes and its hex SHA-256."""

    path: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Outgoing:
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
        """For messages."""
        return f"{self.model}/{self.variant} {self.version} ({self.channel})"


class RevokedError(PublishError):
    """The release was taken back, and nothing else stands against it."""


@contextmanager
def claimed(release: Path, scratch: Path) -> Iterator[None]:
    """Let nobody else publish this variant from here meanwhile.

    Raises:
        PublishError: someone does already.
    """
    with file_lock(
        scratch.with_name(f"{scratch.name}.lock"),
        busy=lambda holder: PublishError(
            f"is being published by another process ({holder})", where=release
        ),
    ):
        yield


@contextmanager
def outgoing(release: Path, policy: Policy, scratch: Path) -> Iterator[Outgoing]:
    """Yield the release as it is now; what becomes of the folder meanwhile does not matter.

    Args:
        release: ``artifacts/release/<model>/<variant>``, which the caller has `claimed`.
        scratch: where the snapshot (hard links where they reach) is; it is removed at the end.

    Raises:
        RevokedError: it was taken back.
        PublishError: it is not there, or the policy does not let it through.
    """
    snapshot = scratch / release.name
    remove_tree(scratch)
    try:
        _snapshot(release, snapshot)
        yield _verified(snapshot, release, policy)
    finally:
        remove_tree(scratch)


def _snapshot(release: Path, snapshot: Path) -> None:
    """Link the release's files while no job replaces them (the lock of `fresh_tree`)."""
    if not (release / MANIFEST).is_file():
        raise PublishError("there is no release", where=release, remedy="run 'snakemake all'")
    with file_lock(release.with_name(f".{release.name}.lock"), shared=True):
        for name in files_under(release):
            link_or_copy(release / name, snapshot / name)


def _verified(snapshot: Path, release: Path, policy: Policy) -> Outgoing:
    revocations = release.parent / REVOCATIONS
    found = verify(
        snapshot,
        _trust(policy),
        channel="stable" if policy.channel == "stable" else None,
        revocations=revocations if revocations.is_file() else None,
    )
    against = [finding.line() for finding in found.findings if finding.refuses]
    if against and all(one.name == "revoked-version" for one in found.findings if one.refuses):
        raise RevokedError(f"{found.model}/{found.variant} {found.version} was revoked")
    if against:
        raise PublishError(
            f"verify refuses it: {'; '.join(against)}",
            where=release,
            remedy="repair what it names"
            + (", or lower 'publish.channel'" if policy.channel == "stable" else ""),
        )
    if found.added:
        raise PublishError(
            f"holds what is not the release's: {', '.join(found.added[:3])}",
            where=release,
            remedy="remove it; only a release's own files are published",
        )
    if (found.model, found.variant) != (release.parent.name, release.name):
        raise PublishError(
            "is the release of something else",
            where=release,
            expected=f"{release.parent.name}/{release.name}",
            found=f"{found.model}/{found.variant}",
        )
    files = {
        name.as_posix(): File(
            snapshot / name, (snapshot / name).stat().st_size, sha256_file(snapshot / name)
        )
        for name in files_under(snapshot)
    }
    listing = "".join(f"{file.sha256}  {name}\n" for name, file in sorted(files.items()))
    return Outgoing(
        found.model,
        found.variant,
        found.version,
        found.channel,
        found.artifact_sha256,
        hashlib.sha256(listing.encode()).hexdigest(),
        files,
    )


def _trust(policy: Policy) -> Trust:
    keys = tuple(read_key(_read(path), str(path)) for path in policy.keys)
    authorities = tuple(
        one for path in policy.authorities for one in read_certificates(_read(path), str(path))
    )
    return Trust(keys, authorities)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PublishError(
            f"cannot be read ({error.strerror})",
            where=path,
            remedy="correct 'publish.keys' or 'publish.authorities' in config/config.yaml",
        ) from None
