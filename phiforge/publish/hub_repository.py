"""Publish releases as commits of a model repository on a Hugging Face Hub; each version is a tag.

huggingface_hub uploads large files first, asks each time which of them are there already, and
leaves out what has not changed; only the commit at the end changes what a reader sees.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from phiforge.sources import client  # first: it prepares the environment for huggingface_hub

# isort: split
import httpx
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import disable_progress_bars

from phiforge.publish import PublishError, Removal
from phiforge.publish.revocations import RevocationList
from phiforge.publish.snapshot import ReleaseSnapshot
from phiforge.settings.config import Hub
from phiforge.sources.retry import TransientError, retry
from phiforge.sources.source import HubSource
from phiforge.trust import TrustError
from phiforge.trust.document import MAX_DOCUMENT, member, parse_json
from phiforge.verify.payload import CARD
from phiforge.verify.revocations import REVOCATIONS, Revocation, with_notice
from phiforge.verify.trust import RELEASE

_Result = TypeVar("_Result")
_CHECKSUMS = "SHA256SUMS"
_KEPT = {".gitattributes", REVOCATIONS}  # the first is the Hub's own
_MOVED = (httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED)


class HubRepository:
    """The repository of one variant.

    Raises:
        PublishError: HF_TOKEN is missing, or the Hub refuses or does not answer after retries.
    """

    def __init__(self, hub: Hub, model: str, variant: str) -> None:
        self._repo = hub.repo.format(model=model, variant=variant)
        self._name = f"{model}/{variant}"
        self._private = hub.private
        self.address = f"{client.endpoint()}/{self._repo}"
        token = client.token()
        if token is None:
            raise PublishError(
                "no token to write with",
                where=self.address,
                remedy="set HF_TOKEN to a token that may write to this repository",
            )
        if not sys.stderr.isatty():
            disable_progress_bars()
        self._api = HfApi(token=token, library_name="phiforge")

    def push_revocations(self, local: tuple[Revocation, ...]) -> str | None:
        """Publish revocations in one commit; None: nothing changed."""
        return self._retry(lambda: self._push_revocations(local))

    def _push_revocations(self, local: tuple[Revocation, ...]) -> str | None:
        try:
            info = self._info()
        except RepositoryNotFoundError:
            return None  # nothing was published there
        revocations = self._revocations(info, local)
        if RELEASE not in _files(info) or not revocations.records:
            return None
        self._refuse_public(info)
        version, artifact_sha256 = self._latest_release(info)
        operations = _recording(revocations)
        revocation = revocations.find(version, artifact_sha256)
        card = self._read(info, CARD).decode("utf-8", "replace")
        if revocation is not None and with_notice(card, revocation) != card:
            operations.append(CommitOperationAdd(CARD, with_notice(card, revocation).encode()))
        reasons = (f"{record.version}: {record.reason}" for record in revocations.records)
        commit = self._commit(info, operations, revocations.summary, "\n".join(reasons))
        if not self._tag(version, commit) and commit == info.sha:
            return None
        return f"published {revocations.summary}: {self.address}"

    def publish(self, release: ReleaseSnapshot, local: tuple[Revocation, ...]) -> str:
        """Bring the repository to exactly this release; report it in one line.

        Args:
            local: this machine's revocations of the variant; they join those of the repository.
        """
        self._retry(lambda: self._api.create_repo(self._repo, private=self._private, exist_ok=True))
        commit, committed = self._retry(lambda: self._commit_release(release, local))
        tagged = self._retry(lambda: self._tag(release.version, commit))
        if not committed and not tagged:
            return f"{release.name} is published already: {self.address}"
        return f"published {release.name}: {self.address}, commit {commit[:12]}"

    def _commit_release(
        self, release: ReleaseSnapshot, local: tuple[Revocation, ...]
    ) -> tuple[str, bool]:
        """Commit what differs; return the commit of the release, and whether it is new."""
        info = self._info()
        self._refuse_public(info)
        self._refuse_other_bytes(release)
        revocations = self._revocations(info, local)
        revocations.refuse(release)
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(name, str(file.path)) for name, file in sorted(release.files.items())
        ]
        surplus = _files(info).keys() - release.files.keys() - _KEPT
        operations += [CommitOperationDelete(name, is_folder=False) for name in sorted(surplus)]
        commit = self._commit(
            info,
            [*operations, *_recording(revocations)],
            f"{release.model} {release.variant} {release.version}",
            f"channel: {release.channel}\nartifact: sha256:{release.artifact_sha256}\n"
            f"release: sha256:{release.release_sha256}",
        )
        return commit, commit != info.sha

    def _commit(
        self,
        info: Any,
        operations: Sequence[CommitOperationAdd | CommitOperationDelete],
        message: str,
        description: str,
    ) -> str:
        """Commit onto the commit that ``info`` describes, without what has not changed."""
        if not operations:
            return str(info.sha)
        done = self._api.create_commit(
            self._repo,
            operations,
            commit_message=message,
            commit_description=description,
            parent_commit=info.sha,
        )
        return str(done.oid)

    def _refuse_public(self, info: Any) -> None:
        if self._private and info.private is not True:
            raise PublishError(
                "the repository is public, and 'publish.hub.private' is true",
                where=self.address,
                remedy="make it private on the Hub, or say 'private: false'",
            )

    def _refuse_other_bytes(self, release: ReleaseSnapshot) -> None:
        """Refuse a version whose tag names another artifact."""
        tag = _tag_of(release.version)
        if tag not in self._tags():
            return
        info = self._info(tag)
        checksums = release.files[_CHECKSUMS].path.read_bytes()
        if _CHECKSUMS not in _files(info) or self._read(info, _CHECKSUMS) != checksums:
            raise PublishError(
                f"version {release.version} is published with other bytes",
                where=f"{self.address}/tree/{tag}",
                remedy="raise 'version' in config/config.yaml and build again",
            )

    def _latest_release(self, info: Any) -> tuple[str, str]:
        """Read version and artifact of the release that ``main`` holds."""
        try:
            record = parse_json(self._read(info, RELEASE), RELEASE)
            return (
                member(record, str, "version", where=RELEASE),
                member(record, str, "artifact_sha256", where=RELEASE),
            )
        except TrustError as error:
            raise PublishError(
                f"holds no release of phiforge's ({error})", where=self.address
            ) from None

    def _revocations(self, info: Any, local: tuple[Revocation, ...]) -> RevocationList:
        data = self._read(info, REVOCATIONS) if REVOCATIONS in _files(info) else None
        return RevocationList(self._name, local, data, f"{self.address}: {REVOCATIONS}")

    def _read(self, info: Any, name: str) -> bytes:
        """Read a small file of a commit; what is listed of it is the server's word."""
        where = f"{self.address}: {name}"
        if name not in _files(info):
            raise PublishError("the repository lacks this file", where=where)
        data = bytearray()
        with client.HubCommit(HubSource(self._repo, str(info.sha))).open(name) as (_, blocks):
            for block in blocks:
                data += block
                if len(data) > MAX_DOCUMENT:
                    raise PublishError(f"is larger than {MAX_DOCUMENT} bytes", where=where)
        return bytes(data)

    def _tag(self, version: str, commit: str) -> bool:
        """Let the version's tag name the commit; it moves when evidence is renewed."""
        tag = _tag_of(version)
        tagged = self._tags().get(tag)
        if tagged == commit:
            return False
        if tagged is not None:
            self._api.delete_tag(self._repo, tag=tag)
        self._api.create_tag(self._repo, tag=tag, revision=commit, exist_ok=True)
        return True

    def removals(self, keep: int) -> list[Removal]:
        """List what pruning to ``keep`` versions would remove: tags, then LFS files."""
        return self._retry(lambda: self._removals(keep))

    def _removals(self, keep: int) -> list[Removal]:
        tags = self._tags()
        order = [commit.commit_id for commit in self._api.list_repo_commits(self._repo)]
        versions = [tag for tag in tags if tag.startswith("v") and tags[tag] in order]
        newest = sorted(versions, key=lambda tag: order.index(tags[tag]))
        kept: set[str] = set()
        for revision in (None, *newest[:keep]):
            kept |= {file.lfs.sha256 for file in _files(self._info(revision)).values() if file.lfs}
        removals = [Removal(tag, f"{keep} newer are kept", ()) for tag in newest[keep:]]
        surplus = {
            file.file_oid: file.size
            for file in self._api.list_lfs_files(self._repo)
            if file.file_oid not in kept
        }
        if surplus:
            why = "no kept version has them"
            removals.append(Removal("large files", why, tuple(surplus), sum(surplus.values())))
        return removals

    def remove(self, removals: list[Removal]) -> None:
        """Remove these files, then these tags: a kill in between leaves the tags."""
        oids = {name for removal in removals for name in removal.names}
        self._retry(lambda: self._remove_files(oids))
        tags = {removal.what for removal in removals if not removal.names}
        self._retry(lambda: self._remove_tags(tags))

    def _remove_files(self, oids: set[str]) -> None:
        files = [file for file in self._api.list_lfs_files(self._repo) if file.file_oid in oids]
        if files:
            # Rewriting history would change the commits that kept versions' tags name.
            self._api.permanently_delete_lfs_files(self._repo, files, rewrite_history=False)

    def _remove_tags(self, tags: set[str]) -> None:
        for tag in tags & self._tags().keys():
            self._api.delete_tag(self._repo, tag=tag)

    def _tags(self) -> dict[str, str]:
        return {tag.name: tag.target_commit for tag in self._api.list_repo_refs(self._repo).tags}

    def _info(self, revision: str | None = None) -> Any:
        return self._api.model_info(self._repo, revision=revision, files_metadata=True)

    def _retry(self, attempt: Callable[[], _Result]) -> _Result:
        """Repeat an attempt where that may help; each starts from what the Hub has by then."""

        def explained() -> _Result:
            with client.explained(self.address, self._http_error):
                try:
                    return attempt()
                except RuntimeError:  # what a thread that uploads raised
                    raise TransientError("an upload failed") from None
                except ValueError as error:
                    if "metadata" not in str(error).lower():
                        raise
                    what = "the Hub does not accept the card's metadata"
                    raise PublishError(what, where=self.address) from None

        return retry(self.address, explained)

    def _http_error(self, error: HfHubHTTPError, where: str) -> Exception:
        status = error.response.status_code
        if status in _MOVED:
            return TransientError("another commit came in between")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            return PublishError(
                f"the token in HF_TOKEN may not write there (HTTP {status})",
                where=where,
                remedy="set HF_TOKEN to a token that may, or correct 'publish.hub.repo'",
            )
        return PublishError(f"the server refused: HTTP {status}", where=where)


def _recording(revocations: RevocationList) -> list[CommitOperationAdd | CommitOperationDelete]:
    """Make the operation that adds what the repository lacks of the list."""
    return [CommitOperationAdd(REVOCATIONS, revocations.encode())] if revocations.changed else []


def _files(info: Any) -> dict[str, Any]:
    """Map the names of a commit's files to what the Hub lists of them."""
    return {file.rfilename: file for file in info.siblings or []}


def _tag_of(version: str) -> str:
    return f"v{version}"
