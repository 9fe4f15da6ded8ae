"""The source of a model: a pinned Hub commit, a local folder, or another model's first layers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import name_problem
from phiforge.errors import PhiforgeError

_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_REVISION = re.compile(r"[0-9a-f]{40}")


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
        """Refuse what does not name one commit."""
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
        """Refuse a checksums file outside the folder."""
        if not is_plain(self.checksums):
            raise SourceError(
                "checksums",
                where=self.path,
                expected="the name of a file in the folder",
                found=repr(self.checksums),
            )


@dataclass(frozen=True)
class FirstLayers:
    """The first layers of another model, with its embedding and head.

    Attributes:
        model: name of the whole model, whose source tree must be there.
        layers: how many.
    """

    model: str
    layers: int


Source = HubSource | LocalSource | FirstLayers


def parse_source(block: Mapping[str, Any]) -> Source:
    """Return the source that a model's ``source`` block names.

    The settings validate the block; the types check again what must hold for every source.

    Raises:
        SourceError: it is of none of the forms, or a value is not valid.
    """
    try:
        if "path" in block:
            return LocalSource(**{**block, "path": Path(block["path"])})
        return FirstLayers(**block) if "layers" in block else HubSource(**block)
    except TypeError as error:
        raise SourceError(
            f"not a source ({error})",
            expected="repo, revision and perhaps sha256, or path and checksums",
            found=", ".join(sorted(block)),
        ) from None


def is_plain(name: str) -> bool:
    """Say whether ``name`` is one file name with no folder in it.

    >>> is_plain("config.json"), is_plain("../config.json"), is_plain("..")
    (True, False, False)
    """
    return "/" not in name and name_problem(name) is None
