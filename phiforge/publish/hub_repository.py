"""A release as one commit of a model repository on a Hugging Face Hub, through its own client.

The client uploads large files to the Hub's storage first and asks each time which of them are
there already; only the commit at the end changes what anyone sees. Each version is a tag.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from phiforge.sources import client  # first: it prepares the environment for huggingface_hub

# isort: split
import httpx
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from phiforge.artifact.tree import git_blob_id
from phiforge.publish.policy import Hub, PublishError
from phiforge.publish.revocations import (
    Revocations,
    encode,
    find_revocation,
    merge,
    parse_published,
    refuse_revoked,
)
from phiforge.publish.snapshot import File, ReleaseSnapshot
from phiforge.publish.storage_repository import Removal
from phiforge.sources.retry import TransientError, retry
from phiforge.sources.source import HubSource
from phiforge.verify.findings import Refusal
from phiforge.verify.folder import MAX_DOCUMENT, member, parse_json
from phiforge.verify.payload import CARD
from phiforge.verify.revocations import REVOCATIONS, with_notice
from phiforge.verify.trust import RELEASE

_Result = TypeVar("_Result")
_HUBS_OWN = {".gitattributes"}  # the Hub makes it; which files are in LFS is its business
_CHECKSUMS = "SHA256SUMS"
_MOVED = (409, 412)  # another commit came in between


class HubRepository:
    """The repository of one variant.

    Raises:
        PublishError: wherever the Hub refuses, or does not answer after some patience.
    """

    def __init__(self, hub: Hub, model: str, variant: str) -> None:
        self._repo = hub.repo_of(model, variant)
        self._name = f"{model}/{variant}"
        self._private = hub.private
        self._page = f"{client.endpoint()}/{self._repo}"
        told = client.token()
        if told is None:
            raise PublishError(
                "no token to write with",
                where=self._page,
                remedy="set HF_TOKEN to a token that may write to this repository",
            )
        if not sys.stderr.isatty():
            disable_progress_bars()
        self._api = HfApi(token=told, library_name="phiforge")

    def push_revocations(self, ours: Revocations) -> str | None:
        """Tell of what was taken back, in one commit; None: there is nothing to do."""
        return self._patiently(lambda: self._revoke(ours))

    def _revoke(self, ours: Revocations) -> str | None:
        try:
            info = self._info(None)
        except RepositoryNotFoundError:
            return None  # nothing was ever published there
        known = self._revocations(info)
        revocations = merge(known, ours)
        if RELEASE not in _files(info) or not revocations:
            return None
        self._refuse_public(info)
        version, artifact_sha256 = self._shown(info)
        changes = _recording(known, revocations)
        found = find_revocation(revocations, self._name, version, artifact_sha256)
        if found is not None:
            card = self._text(info, CARD)
            if with_notice(card, found) != card:
                told = with_notice(card, found).encode()
                changes.append(CommitOperationAdd(path_in_repo=CARD, path_or_fileobj=told))
        commit = str(info.sha)
        versions = ", ".join(dict.fromkeys(one.version for one in revocations))
        if changes:
            done = self._api.create_commit(
                self._repo,
                changes,
                commit_message=f"{self._name} {versions}: revoked",
                commit_description="\n".join(f"{one.version}: {one.reason}" for one in revocations),
                parent_commit=info.sha,
            )
            commit = str(done.oid)
        if not self._tag(version, commit) and not changes:
            return None
        return f"published the revocation of {self._name} {versions}: {self._page}"

    def publish(self, release: ReleaseSnapshot, ours: Revocations) -> str:
        """Bring the repository to exactly this release; what was done, in one line.

        Args:
            ours: what was taken back of this variant; it joins what the repository tells already.
        """
        self._patiently(
            lambda: self._api.create_repo(self._repo, private=self._private, exist_ok=True)
        )
        commit, committed = self._patiently(lambda: self._commit(release, ours))
        tagged = self._patiently(lambda: self._tag(release.version, commit))
        if not committed and not tagged:
            return f"{release.name} is published already: {self._page}"
        return f"published {release.name}: {self._page}, commit {commit[:12]}"

    def _commit(self, release: ReleaseSnapshot, ours: Revocations) -> tuple[str, bool]:
        """The commit that holds the release, and whether it had to be made."""
        info = self._info(None)
        self._refuse_public(info)
        self._refuse_other_bytes(release)
        known = self._revocations(info)
        revocations = merge(known, ours)
        refuse_revoked(
            revocations, self._name, release.version, release.artifact_sha256, self._page
        )
        there = _files(info)
        wanted = [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(file.path))
            for name, file in sorted(release.files.items())
            if name not in there or not _same(there[name], file)
        ]
        surplus = [
            CommitOperationDelete(path_in_repo=name, is_folder=False)
            for name in sorted(there.keys() - release.files.keys() - _HUBS_OWN - {REVOCATIONS})
        ]
        wanted += _recording(known, revocations)
        if not wanted and not surplus:
            return str(info.sha), False
        done = self._api.create_commit(
            self._repo,
            [*wanted, *surplus],
            commit_message=f"{release.model} {release.variant} {release.version}",
            commit_description=f"channel: {release.channel}\n"
            f"artifact: sha256:{release.artifact_sha256}\n"
            f"release: sha256:{release.release_sha256}",
            parent_commit=info.sha,
        )
        return str(done.oid), True

    def _refuse_public(self, info: Any) -> None:
        if self._private and info.private is not True:
            raise PublishError(
                "the repository is public, and 'publish.hub.private' is true",
                where=self._page,
                remedy="make it private on the Hub, or say 'private: false'",
            )

    def _shown(self, info: Any) -> tuple[str, str]:
        """Version and artifact of the release that ``main`` holds."""
        try:
            record = parse_json(self._text(info, RELEASE), RELEASE)
            return (
                member(record, str, "version", where=RELEASE),
                member(record, str, "artifact_sha256", where=RELEASE),
            )
        except Refusal as refusal:
            raise PublishError(
                f"holds no release of phiforge's ({refusal})", where=self._page
            ) from None

    def _revocations(self, info: Any) -> Revocations:
        """What the repository says was taken back."""
        if REVOCATIONS not in _files(info):
            return ()
        return parse_published(
            self._bytes(info, REVOCATIONS), self._name, f"{self._page}: {REVOCATIONS}"
        )

    def _text(self, info: Any, name: str) -> str:
        return self._bytes(info, name).decode("utf-8")

    def _bytes(self, info: Any, name: str) -> bytes:
        """A document as ``main`` had it when it was asked."""
        if _files(info)[name].size > MAX_DOCUMENT:
            raise PublishError(
                f"is larger than {MAX_DOCUMENT} bytes", where=f"{self._page}: {name}"
            )
        source = client.HubCommit(HubSource(self._repo, str(info.sha)))
        with source.open(name) as (_, blocks):
            return b"".join(blocks)

    def _refuse_other_bytes(self, release: ReleaseSnapshot) -> None:
        """A version's tag never comes to mean another artifact."""
        if _tag_of(release.version) not in self._tags():
            return
        there = _files(self._info(_tag_of(release.version)))
        listing = there.get(_CHECKSUMS)
        if listing is None or not _same(listing, release.files[_CHECKSUMS]):
            raise PublishError(
                f"version {release.version} is published with other bytes",
                where=f"{self._page}/tree/{_tag_of(release.version)}",
                remedy="raise 'version' in config/config.yaml and build again",
            )

    def _tag(self, version: str, commit: str) -> bool:
        """Let the version's tag name the commit; it follows when evidence was renewed."""
        tag = _tag_of(version)
        standing = self._tags().get(tag)
        if standing == commit:
            return False
        if standing is not None:
            self._api.delete_tag(self._repo, tag=tag)
        self._api.create_tag(self._repo, tag=tag, revision=commit, exist_ok=True)
        return True

    def removals(self, keep: int) -> list[Removal]:
        """What a clean-up that leaves ``keep`` versions would take away: tags, then LFS files."""
        return self._patiently(lambda: self._removals(keep))

    def _removals(self, keep: int) -> list[Removal]:
        tags = self._tags()
        order = [commit.commit_id for commit in self._api.list_repo_commits(self._repo)]
        known = [tag for tag in tags if tag.startswith("v") and tags[tag] in order]
        newest = sorted(known, key=lambda tag: order.index(tags[tag]))
        kept: set[str] = set()
        for revision in (None, *newest[:keep]):
            kept |= {one.lfs.sha256 for one in self._info(revision).siblings or [] if one.lfs}
        found = [Removal(tag, f"{keep} newer are kept", ()) for tag in newest[keep:]]
        surplus = [one for one in self._api.list_lfs_files(self._repo) if one.file_oid not in kept]
        if surplus:
            names = tuple(sorted({str(one.file_oid) for one in surplus}))
            size = sum(one.size for one in surplus)
            found.append(Removal("large files", "no kept version has them", names, size))
        return found

    def remove(self, removals: list[Removal]) -> None:
        """Take these tags and files away; the files first, so that a kill leaves the tags."""
        oids = {name for removal in removals for name in removal.names}
        self._patiently(lambda: self._remove_files(oids))
        for removal in removals:
            if not removal.names:
                self._patiently(lambda tag=removal.what: self._remove_tag(tag))  # type: ignore[misc]

    def _remove_files(self, oids: set[str]) -> None:
        files = [one for one in self._api.list_lfs_files(self._repo) if one.file_oid in oids]
        if files:
            # Rewriting history would change the commits that kept versions' tags name.
            self._api.permanently_delete_lfs_files(self._repo, files, rewrite_history=False)

    def _remove_tag(self, tag: str) -> None:
        if tag in self._tags():
            self._api.delete_tag(self._repo, tag=tag)

    def _tags(self) -> dict[str, str]:
        return {one.name: one.target_commit for one in self._api.list_repo_refs(self._repo).tags}

    def _info(self, revision: str | None) -> Any:
        return self._api.model_info(self._repo, revision=revision, files_metadata=True)

    def _patiently(self, question: Callable[[], _Result]) -> _Result:
        """Ask again where that may help; each question starts from what the Hub has by then."""

        def attempt() -> _Result:
            with self._explained():
                return question()

        return retry(self._page, attempt)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the client raises into `TransientError` or `PublishError`."""
        try:
            yield
        except OfflineModeIsEnabled:
            raise PublishError(
                "HF_HUB_OFFLINE is set", where=self._page, remedy="unset it"
            ) from None
        except HfHubHTTPError as error:
            raise self._refusal(error) from None
        except httpx.RequestError as error:
            raise TransientError(client.describe(error)) from None
        except (HFValidationError, httpx.InvalidURL):
            raise PublishError("the client refuses this name", where=self._page) from None
        except RuntimeError:  # the client wraps what an upload thread raised
            raise TransientError("an upload failed") from None
        except (ValueError, KeyError, TypeError) as error:
            card = "metadata" in str(error).lower()
            raise PublishError(
                "the Hub does not accept the card's metadata"
                if card
                else "the answer is not what a Hub gives",
                where=self._page,
            ) from None

    def _refusal(self, error: HfHubHTTPError) -> Exception:
        status = error.response.status_code
        if status in client.TRANSIENT_STATUS:
            return client.transient(error.response)
        if status in _MOVED:
            return TransientError("another commit came in between")
        if status in (401, 403):
            what, remedy = (
                f"the token in HF_TOKEN may not write there (HTTP {status})",
                "set HF_TOKEN to a token that may, or correct 'publish.hub.repo'",
            )
        elif isinstance(error, RevisionNotFoundError):
            what, remedy = "the Hub does not know a revision that it has just named", "run again"
        else:
            what, remedy = f"the server refused: HTTP {status}", "read the Hub's own page"
        return PublishError(what, where=self._page, remedy=remedy)


def _recording(known: Revocations, revocations: Revocations) -> list[CommitOperationAdd]:
    """What lets a repository that tells of ``known`` tell of all; nothing where it does."""
    if revocations == known:
        return []
    data = encode(revocations)
    return [CommitOperationAdd(path_in_repo=REVOCATIONS, path_or_fileobj=data)]


def _files(info: Any) -> dict[str, Any]:
    """What the Hub lists of a commit, by name."""
    return {one.rfilename: one for one in info.siblings or []}


def _tag_of(version: str) -> str:
    return f"v{version}"


def _same(there: Any, file: File) -> bool:
    """Whether a listed file has these bytes, by LFS digest or git blob id."""
    if there.lfs:
        return bool(there.lfs.sha256 == file.sha256)
    return bool(there.size == file.size and there.blob_id == git_blob_id(file.path))
