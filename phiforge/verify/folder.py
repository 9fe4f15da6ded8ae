"""A folder that someone sent: surveyed without following anything, read within limits."""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import ChecksumsError, name_problem, parse_checksums
from phiforge.verify.findings import Finding, Refusal

MAX_FILES = 2_000
MAX_DEPTH = 16
MAX_DOCUMENT = 32_000_000  # bytes of a JSON document or a checksum list
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
        """Hex SHA-256 of a file.

        Raises:
            Refusal: it is not a regular file any more, or ``oversized-file``.
        """
        if name in self.known:
            return self.known[name]
        if limit is not None and self.sizes[name] > limit:
            raise Refusal("oversized-file", f"larger than {limit} bytes", name)
        digest = hashlib.sha256()
        for block in self._blocks(name):
            digest.update(block)
        return digest.hexdigest()

    def read(self, name: str, limit: int = MAX_DOCUMENT) -> bytes:
        """The bytes of a document.

        Raises:
            Refusal: ``missing-file`` or ``oversized-file``.
        """
        if name not in self.sizes:
            raise Refusal("missing-file", "the release lacks this file", name)
        collected = bytearray()
        for block in self._blocks(name):
            collected += block
            if len(collected) > limit:
                raise Refusal("oversized-file", f"larger than {limit} bytes", name)
        return bytes(collected)

    def text(self, name: str) -> str:
        """A document's text.

        Raises:
            Refusal: also ``not-utf-8``.
        """
        try:
            return self.read(name).decode("utf-8")
        except UnicodeDecodeError:
            raise Refusal("not-utf-8", "is not UTF-8 text", name) from None

    def json(self, name: str) -> dict[str, Any]:
        """A document's JSON object.

        Raises:
            Refusal: see `parse_json`.
        """
        return parse_json(self.text(name), name)

    def checksums(self, name: str) -> dict[str, str]:
        """File name to hex SHA-256, of a list in the form of coreutils' sha256sum.

        Raises:
            Refusal: ``malformed-checksums``, ``hostile-name`` or ``duplicate-path``.
        """
        try:
            return parse_checksums(self.text(name), name)
        except ChecksumsError as error:
            raise Refusal(error.name, error.what, name) from None

    def below(self, prefix: str) -> list[str]:
        """Names that start with ``prefix``, sorted."""
        return sorted(name for name in self.sizes if name.startswith(prefix))

    def _blocks(self, name: str) -> Iterator[bytes]:
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self.root / name, flags)
        except OSError as error:
            raise Refusal("unreadable-file", error.strerror or "cannot be read", name) from None
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise Refusal("not-a-regular-file", "changed while it was read", name)
            while block := stream.read(_BLOCK):
                yield block


def survey(root: Path, known: Mapping[str, str] | None = None) -> tuple[Folder, list[Finding]]:
    """Every file below ``root``, and a finding for whatever else is there.

    Raises:
        Refusal: ``root`` is no folder, or holds more than anyone needs to look at.
    """
    if not root.is_dir():
        raise Refusal("not-a-folder", "is not a folder", str(root))
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
                    raise Refusal("too-many-files", f"more than {MAX_FILES} entries", str(root))
    findings += [
        Finding("hostile-name", "differs from another name by upper and lower case only", name)
        for name in same_but_for_case(sizes)
    ]
    return Folder(root, sizes, known or {}), sorted(findings, key=lambda found: found.where)


def same_but_for_case(names: Iterable[str]) -> list[str]:
    """Names that a file system which ignores case takes for one that stands before them."""
    seen: set[str] = set()
    found = []
    for name in sorted(names):
        if name.lower() in seen:
            found.append(name)
        seen.add(name.lower())
    return found


def parse_json(text: str, where: str) -> dict[str, Any]:
    """A JSON object, strictly: no duplicate key, no NaN, no depth that exhausts the parser.

    Raises:
        Refusal: ``duplicate-key``, ``deep-json`` or ``not-json``.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise Refusal("duplicate-key", "a JSON key stands twice", where)
        return made

    def refuse(constant: str) -> Any:
        raise Refusal("not-json", f"{constant} is not JSON", where)

    try:
        value = json.loads(text, object_pairs_hook=once, parse_constant=refuse)
    except RecursionError:
        raise Refusal("deep-json", "nested deeper than any of our documents", where) from None
    except ValueError as error:
        raise Refusal("not-json", f"is not JSON ({error})", where) from None
    if not isinstance(value, dict):
        raise Refusal("not-json", "is not a JSON object", where)
    return value


def member(value: Any, kind: type, *path: str | int, where: str) -> Any:
    """The value at ``path`` inside a JSON document, if it is a ``kind``.

    Raises:
        Refusal: ``malformed``: it is not there, or something else.
    """
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            raise Refusal("malformed", f"lacks '{'.'.join(map(str, path))}'", where) from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        told = ".".join(map(str, path))
        raise Refusal("malformed", f"'{told}' is not of type {kind.__name__}", where)
    return value
