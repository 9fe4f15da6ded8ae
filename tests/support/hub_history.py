"""What the Hub of `support.hub_server` holds, what was asked of it, and what it is to do wrong."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

API, COMMIT, UPLOAD = "the API", "a commit", "an upload"


@dataclass(frozen=True)
class Commit:
    """One commit of one repository: file name to bytes, and which of them are in LFS."""

    name: str
    revision: str
    files: Mapping[str, bytes]
    lfs: frozenset[str]

    def lfs_digest(self, path: str) -> str | None:
        """The SHA-256 of a file in LFS; None: it is in git."""
        return hashlib.sha256(self.files[path]).hexdigest() if path in self.lfs else None

    def blob_id(self, path: str) -> str:
        """The git object id of a file's bytes."""
        return git_blob_id(self.files[path])


@dataclass
class Line:
    """One repository's history: commits, oldest first, and tags to commit ids."""

    private: bool = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Commit:
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """The commit that a branch, a tag or a commit id names."""
        wanted = self.head.revision if revision == "main" else self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.revision == wanted), None)


@dataclass
class Fault:
    """Spoil the next ``times`` requests for ``target`` (a file name, `API`, `COMMIT`, `UPLOAD`).

    Attributes:
        status: answer with this HTTP status and ``headers`` instead.
        cut: close the connection after so many bytes of the answer; of a commit that was made.
        reset: the same with a TCP reset.
        hold: send so many bytes of the answer, or take so many, then nothing until the server
            stops.
        corrupt: flip one bit at this offset of the file.
        truncate: serve the file as if it had only so many bytes.
        append: serve the file with these bytes after its end.
        ignore_range: answer 200 with the complete file whatever the client asked for.
        body: answer this instead of JSON.
    """

    target: str
    times: int = 1_000_000
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: int | None = None
    hold: int | None = None
    corrupt: int | None = None
    truncate: int | None = None
    append: bytes = b""
    ignore_range: bool = False
    body: bytes | None = None


@dataclass(frozen=True)
class Request:
    """One request that arrived; ``target`` as in `Fault`, ``at`` in seconds."""

    host: str
    target: str
    path: str
    range: str | None
    authorization: str | None
    at: float


def git_blob_id(data: bytes) -> str:
    """Return the id that ``git hash-object`` gives."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def sibling(commit: Commit, path: str, *, blobs: bool) -> dict[str, object]:
    """How a listing shows a file: its name, and, if asked for, sizes and checksums."""
    if not blobs:
        return {"rfilename": path}
    size, sha256 = len(commit.files[path]), commit.lfs_digest(path)
    lfs = {"lfs": {"sha256": sha256, "size": size, "pointerSize": 134}} if sha256 else {}
    return {"rfilename": path, "size": size, "blobId": git_blob_id(commit.files[path]), **lfs}


def mode_of(asked: Mapping[str, Any], head: Commit, large: int) -> dict[str, object]:
    """How a file is to be uploaded, and the id of what ``main`` holds under its name."""
    path = asked["path"]
    known = {}
    if path in head.files:
        known = {"oid": head.lfs_digest(path) or git_blob_id(head.files[path])}
    mode = "lfs" if asked["size"] > large else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, **known}
