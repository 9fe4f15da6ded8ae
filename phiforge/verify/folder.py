"""Survey a folder that someone sent, following nothing, and read it within limits."""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import ChecksumsError, name_problem, parse_checksums
from phiforge.trust import TrustError
from phiforge.trust.document import MAX_DOCUMENT, parse_json
from phiforge.verify.findings import Finding

MAX_FILES = 2_000
MAX_DEPTH = 16
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Folder:
    """The regular files below ``root``.

    Attributes:
        sizes: name, with forward slashes, to size in bytes.
        known: digests that the caller has already taken of some of the files.
    """

    root: Path
    sizes: Mapping[str, int]
    known: Mapping[str, str]

    def sha256(self, name: str, limit: int | None = None) -> str:
        """Return the hex SHA-256 of a file.

        Raises:
            TrustError: it is not a regular file any more, or ``oversized-file``.
        """
        if name in self.known:
            return self.known[name]
        if limit is not None and self.sizes[name] > limit:
            raise TrustError("oversized-file", f"larger than {limit} bytes", name)
        digest = hashlib.sha256()
        for block in read_blocks(self.root / name, name):
            digest.update(block)
        return digest.hexdigest()

    def read(self, name: str) -> bytes:
        """Return the bytes of a document.

        Raises:
            TrustError: ``missing-file`` or ``oversized-file``.
        """
        if name not in self.sizes:
            raise TrustError("missing-file", "the release lacks this file", name)
        return read_document(self.root / name, name)

    def text(self, name: str) -> str:
        """Return a document's text.

        Raises:
            TrustError: also ``not-utf-8``.
        """
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError:
            raise TrustError("not-utf-8", "is not UTF-8 text", name) from None

    def json(self, name: str) -> dict[str, Any]:
        """Return a document's JSON object.

        Raises:
            TrustError: see `phiforge.trust.document.parse_json`.
        """
        return parse_json(self.read(name), name)

    def checksums(self, name: str) -> dict[str, str]:
        """Return file name to hex SHA-256, of a list in the form of coreutils' sha256sum.

        Raises:
            TrustError: ``malformed-checksums``, ``hostile-name`` or ``duplicate-path``.
        """
        try:
            return parse_checksums(self.text(name), name)
        except ChecksumsError as error:
            raise TrustError(error.name, error.what, name) from None

    def below(self, prefix: str) -> list[str]:
        """Return the names that start with ``prefix``, sorted."""
        return sorted(name for name in self.sizes if name.startswith(prefix))


def read_blocks(path: Path, name: str, *, follow: bool = False) -> Iterator[bytes]:
    """Yield the bytes of a regular file; a pipe or a device is not waited for.

    Args:
        name: the file's name, for messages.
        follow: a symbolic link may lead to it.

    Raises:
        TrustError: ``unreadable-file`` or ``not-a-regular-file``.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        raise TrustError("unreadable-file", error.strerror or "cannot be read", name) from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError("not-a-regular-file", "a folder, a pipe or the like", name)
        while block := os.read(descriptor, _BLOCK):
            yield block
    finally:
        os.close(descriptor)


def read_document(path: Path, name: str, *, follow: bool = False) -> bytes:
    """Return the bytes of a regular file, `MAX_DOCUMENT` at most.

    Raises:
        TrustError: see `read_blocks`; ``oversized-file``.
    """
    collected = bytearray()
    for block in read_blocks(path, name, follow=follow):
        collected += block
        if len(collected) > MAX_DOCUMENT:
            raise TrustError("oversized-file", f"larger than {MAX_DOCUMENT} bytes", name)
    return bytes(collected)


def survey(root: Path, known: Mapping[str, str] | None = None) -> tuple[Folder, list[Finding]]:
    """Return every file below ``root``, and a finding for whatever else is in it.

    Raises:
        TrustError: ``root`` is no folder, or holds more than anyone needs to look at.
    """
    if not root.is_dir():
        raise TrustError("not-a-folder", "is not a folder", str(root))
    sizes: dict[str, int] = {}
    findings: list[Finding] = []
    waiting = [(root, "", 0)]
    while waiting:
        folder, prefix, depth = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = prefix + entry.name
                mode = entry.stat(follow_symlinks=False).st_mode
                if problem := name_problem(name):
                    findings.append(Finding("hostile-name", problem, name))
                elif stat.S_ISREG(mode):
                    sizes[name] = entry.stat(follow_symlinks=False).st_size
                elif stat.S_ISDIR(mode) and depth < MAX_DEPTH:
                    waiting.append((Path(entry.path), f"{name}/", depth + 1))
                elif stat.S_ISLNK(mode):
                    findings.append(Finding("symlink", "a symbolic link; copies only", name))
                else:
                    findings.append(Finding("not-a-regular-file", "a device or the like", name))
                if len(sizes) + len(findings) + len(waiting) > MAX_FILES:
                    raise TrustError("too-many-files", f"more than {MAX_FILES} entries", str(root))
    findings += [
        Finding("hostile-name", "differs from another name by upper and lower case only", name)
        for name in same_but_for_case(sizes)
    ]
    return Folder(root, sizes, known or {}), sorted(findings, key=lambda found: found.where)


def same_but_for_case(names: Iterable[str]) -> list[str]:
    """Return the names that differ from an earlier one by upper and lower case only."""
    seen: set[str] = set()
    found = []
    for name in sorted(names):
        if name.lower() in seen:
            found.append(name)
        seen.add(name.lower())
    return found
