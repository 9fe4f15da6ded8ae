"""What a model's ``source`` block asks for: one pinned Hub commit, or one local folder."""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from phiforge.errors import PhiforgeError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")


class SourceError(PhiforgeError):
    """A source cannot be had, or is not what it must be."""


@dataclass(frozen=True)
class HubSource:
    """A model repository at one commit.

    Attributes:
        repo: ``owner/name`` on the Hub.
        revision: the commit, 40 hex digits; a branch or a tag is never accepted.
        sha256: file name to hex digest, for files that are pinned beyond the commit.
    """

    repo: str
    revision: str
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LocalSource:
    """A folder with a record of its own checksums.

    Attributes:
        path: the folder; relative to the working folder.
        checksums: name of the file in it that lists them, as ``sha256sum`` writes it.
    """

    path: Path
    checksums: str


Source = HubSource | LocalSource


def parse_source(text: str) -> Source:
    """Read a ``source`` block from JSON.

    Raises:
        SourceError: it is neither of the two forms, or a value is not valid.
    """
    try:
        block = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceError(f"not JSON ({error})", where="--source") from None
    if isinstance(block, dict) and "repo" in block:
        _expect_keys(block, {"repo", "revision"}, {"sha256"})
        return _hub_source(block)
    if isinstance(block, dict) and "path" in block:
        _expect_keys(block, {"path", "checksums"}, set())
        return _local_source(block)
    raise SourceError(
        "names no source",
        where="--source",
        remedy='give {"repo": …, "revision": …} or {"path": …, "checksums": …}',
    )


def _expect_keys(block: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    for key in sorted(required - block.keys()):
        raise SourceError(f"the key {key!r} is missing", where="--source")
    for key in sorted(block.keys() - required - optional):
        raise SourceError(
            f"unknown key {key!r}",
            where="--source",
            expected="only " + ", ".join(sorted(required | optional)),
            found=key,
        )


def _hub_source(block: Mapping[str, Any]) -> HubSource:
    repo, revision, pins = block["repo"], block["revision"], block.get("sha256", {})
    if not isinstance(repo, str) or not _REPO.fullmatch(repo):
        raise SourceError("repo", where="--source", expected="owner/name", found=repr(repo))
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        raise SourceError(
            "revision",
            where="--source",
            expected="a commit of 40 lower-case hex digits",
            found=repr(revision),
            remedy="pin the commit shown on the repository's history page; a branch or a tag moves",
        )
    if not isinstance(pins, dict):
        raise SourceError(
            "sha256", where="--source", expected="file names with digests", found=repr(pins)
        )
    for name, digest in pins.items():
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise SourceError(
                f"sha256 of {name}",
                where="--source",
                expected="64 lower-case hex digits",
                found=repr(digest),
            )
    return HubSource(repo, revision, pins)


def _local_source(block: Mapping[str, Any]) -> LocalSource:
    path, checksums = block["path"], block["checksums"]
    if not isinstance(path, str) or not path:
        raise SourceError("path", where="--source", expected="a folder", found=repr(path))
    if not isinstance(checksums, str) or not is_plain(checksums):
        raise SourceError(
            "checksums",
            where="--source",
            expected="the name of a file in the folder",
            found=repr(checksums),
        )
    return LocalSource(Path(path), checksums)


def is_plain(name: str) -> bool:
    """Whether ``name`` is one printable file name with no folder in it.

    >>> is_plain("config.json"), is_plain("../config.json"), is_plain("..")
    (True, False, False)
    """
    return stays_inside(name) and name.isprintable() and "/" not in name


def stays_inside(name: str) -> bool:
    """Whether ``name`` is a relative path that cannot leave the folder it is joined to.

    >>> stays_inside("onnx/model.onnx"), stays_inside("a/../../b"), stays_inside("/etc/passwd")
    (True, False, False)
    """
    return (
        not any(letter == "\\" or unicodedata.category(letter) == "Cc" for letter in name)
        and name == PurePosixPath(name).as_posix()
        and not PurePosixPath(name).is_absolute()
        and not {"", ".", ".."} & set(name.split("/"))
    )
