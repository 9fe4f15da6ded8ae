"""Digest a file and search it for denied strings, in one pass."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

BLOCK_BYTES = 1 << 22
_DESCRIPTION_BYTES = 1 << 26
_LONG = 8


class FileDigest:
    """Size and SHA-256 of a file; give it every byte, in order.

    Attributes:
        size: bytes so far.
        denied: the first of the denied strings that occurs; None: none does.
    """

    def __init__(self, denied_strings: Sequence[str]) -> None:
        """Search for ``denied_strings``.

        One of less than eight characters, such as a short commit, is searched in the first 64 MB
        only: graphs and descriptions are smaller, and gigabytes of weights hold any such text by
        chance.
        """
        self.size = 0
        self.denied: str | None = None
        self._hash = hashlib.sha256()
        texts = [text.encode() for text in denied_strings]
        # A longer path contains the folder that it begins with. A short commit is not searched
        # everywhere, so it must not stand for a path that it is a part of.
        everywhere = [text for text in texts if len(text) >= _LONG]
        self._texts = [
            text for text in texts if not any(part in text for part in everywhere if part != text)
        ]
        self._overlap = max((len(text) for text in self._texts), default=1) - 1
        self._tail = b""

    @classmethod
    def of(cls, path: Path, denied_strings: Sequence[str] = ()) -> "FileDigest":
        """Digest the file at ``path``."""
        digest = cls(denied_strings)
        block = bytearray(BLOCK_BYTES)
        with path.open("rb", buffering=0) as stream:
            while length := stream.readinto(block):
                digest.update(block, length)
        return digest

    @property
    def sha256(self) -> str:
        """The hex digits of the bytes so far."""
        return self._hash.hexdigest()

    def update(self, block: bytearray, length: int) -> None:
        """Add the next ``length`` bytes, the first of ``block``."""
        self._hash.update(memoryview(block)[:length])
        if self._texts and self.denied is None:
            seam = self._tail + bytes(block[: min(self._overlap, length)])
            for text in self._texts:
                end = length if len(text) >= _LONG else min(length, _DESCRIPTION_BYTES - self.size)
                if end <= 0:
                    continue
                in_seam = seam.find(text, 0, len(self._tail) + end) >= 0
                if in_seam or block.find(text, 0, end) >= 0:
                    self.denied = text.decode()
                    break
            self._tail = bytes(self._tail + block[max(0, length - self._overlap) : length])
            self._tail = self._tail[-self._overlap :] if self._overlap else b""
        self.size += length
