"""Size and SHA-256 of a file, its bytes searched for texts that must not be there, in one pass."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

BLOCK_BYTES = 1 << 22
_DESCRIPTION_BYTES = 1 << 26
_LONG = 8


class FileDigest:
    """What one pass over a file tells; feed it every byte, in order.

    Attributes:
        size: bytes so far.
        found: the first of the texts that occurs.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        """Search for ``texts``.

        A text of less than eight characters, such as a short commit, is searched in the first
        64 MB only: graphs and descriptions are smaller, and gigabytes of weights hold any such
        text by chance.
        """
        self.size = 0
        self.found: str | None = None
        self._hash = hashlib.sha256()
        named = [text.encode() for text in texts]
        # Whoever holds a longer path also holds the folder that it begins with. A short commit is
        # not searched everywhere, so it must not stand for a path that it is a part of.
        everywhere = [text for text in named if len(text) >= _LONG]
        self._texts = [
            one for one in named if not any(two in one for two in everywhere if two != one)
        ]
        self._overlap = max((len(text) for text in self._texts), default=1) - 1
        self._tail = b""

    @classmethod
    def of(cls, path: Path, texts: Sequence[str] = ()) -> "FileDigest":
        """The digest of the file at ``path``."""
        digest = cls(texts)
        block = bytearray(BLOCK_BYTES)
        with path.open("rb", buffering=0) as stream:
            while length := stream.readinto(block):
                digest.update(block, length)
        return digest

    @property
    def sha256(self) -> str:
        """Hex digits of the bytes so far."""
        return self._hash.hexdigest()

    def update(self, block: bytearray, length: int) -> None:
        """Take the next ``length`` bytes, the first of ``block``."""
        self._hash.update(memoryview(block)[:length])
        if self._texts and self.found is None:
            seam = self._tail + bytes(block[: min(self._overlap, length)])
            for text in self._texts:
                end = length if len(text) >= _LONG else min(length, _DESCRIPTION_BYTES - self.size)
                if end <= 0:
                    continue
                in_seam = seam.find(text, 0, len(self._tail) + end) >= 0
                if in_seam or block.find(text, 0, end) >= 0:
                    self.found = text.decode()
                    break
            self._tail = bytes(self._tail + block[max(0, length - self._overlap) : length])
            self._tail = self._tail[-self._overlap :] if self._overlap else b""
        self.size += length
