"""What a model's ``source`` block asks for: one pinned Hub commit, or one local folder."""

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

    def __post_init__(self) -> None:
        """See that this names one commit."""
        if not _REPO.fullmatch(self.repo):
            raise SourceError("repo", expected="owner/name", found=repr(self.repo))
        if not _REVISION.fullmatch(self.revision):
            raise SourceError(
                f"revision of {self.repo}",
                expected="a commit of 40 lower-case hex digits",
                found=repr(self.revision),
                remedy="pin the commit shown on the repository's history page; a branch or a tag "
                "moves",
            )


@dataclass(frozen=True)
class LocalSource:
    """A folder with a record of its own checksums.

    Attributes:
        path: the folder; relative to the working folder.
        checksums: name of the file in it that lists them, as ``sha256sum`` writes it.
    """

    path: Path
    checksums: str

    def __post_init__(self) -> None:
        """See that the checksums are those of this folder."""
        if not is_plain(self.checksums):
            raise SourceError(
                "checksums",
                where=self.path,
                expected="the name of a file in the folder",
                found=repr(self.checksums),
            )


Source = HubSource | LocalSource


def parse_source(block: Mapping[str, Any]) -> Source:
    """Make the source that a model's ``source`` block names.

    The settings have validated the block already; what must hold for every source, whoever asks
    for it, is checked by the types themselves.

    Raises:
        SourceError: it is neither of the two forms, or a value is not valid.
    """
    try:
        if "path" in block:
            return LocalSource(**{**block, "path": Path(block["path"])})
        return HubSource(**block)
    except TypeError as error:
        raise SourceError(
            f"not a source ({error})",
            expected="repo, revision and perhaps sha256, or path and checksums",
            found=", ".join(sorted(block)),
        ) from None


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
