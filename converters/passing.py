"""Digests of large files, computed while their writers append to them.

A payload's weights are gigabytes, and their writers (OpenVINO, onnx-ir) know nothing of digests.
Reading each file once more costs as much as writing it, and leaves its pages in the page cache,
where they push out the source that every conversion reads. A thread here reads behind the writer
what has just been written, and asks the kernel to put it on the disk and let its pages go
(posix_fadvise(2), POSIX_FADV_DONTNEED: it starts the writing of pages that are still dirty).

That a writer only appends is looked at again in the end, in samples: of a file that was given its
size first and filled afterwards, nothing is told, and who asks for its digest has to read it.
"""

import os
import threading
import zlib
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType

from phiforge.artifact.file_digest import BLOCK_BYTES, FileDigest

APPENDED = ("openvino_model.bin", "model.onnx.data")
"""Files that their writers only append to: what has been read of them does not change."""

_PERIOD_S = 0.05
_LARGE_BYTES = 1 << 28
_WINDOW_BYTES = 1 << 27
_SAMPLED = 32  # every so many blocks


class Passing:
    """Reads the `APPENDED` files below a folder while they grow, from ``with`` to its end."""

    def __init__(self, folder: Path, texts: Sequence[str]) -> None:
        self._folder = folder
        self._texts = texts
        self._followed: dict[tuple[int, int], _Followed] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="passing", daemon=True)

    def __enter__(self) -> "Passing":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        for followed in self._followed.values():
            followed.close()

    def digests(self) -> dict[Path, FileDigest]:
        """The digests by name below the folder; to be asked once all writers have ended."""
        self._ended.set()
        self._thread.join()
        complete = {}
        for path in _appended(self._folder):
            status = path.stat()
            if followed := self._followed.get((status.st_dev, status.st_ino)):
                while followed.advance():
                    pass
                if followed.digest.size == status.st_size and followed.is_unchanged():
                    complete[path.relative_to(self._folder)] = followed.digest
        return complete

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            for path in _appended(self._folder):
                self._follow(path)
            for followed in self._followed.values():
                while followed.advance() and not self._ended.is_set():
                    pass

    def _follow(self, path: Path) -> None:
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return  # moved or removed while we looked
        status = os.fstat(file.fileno())  # of what is open, whatever has the name by now
        key = (status.st_dev, status.st_ino)
        if key in self._followed or status.st_size < _LARGE_BYTES:
            file.close()
        else:
            self._followed[key] = _Followed(file, FileDigest(self._texts))


class _Followed:
    """One growing file; known by what is open, whatever its writer calls it in the end."""

    def __init__(self, file: FileIO, digest: FileDigest) -> None:
        self.digest = digest
        self._file = file
        self._block = bytearray(BLOCK_BYTES)
        self._blocks = 0
        self._samples: list[tuple[int, int, int]] = []

    def advance(self) -> bool:
        """Take a block, or what there is; say whether there was anything."""
        length = self._file.readinto(self._block)
        if not length:
            return False
        if self._blocks % _SAMPLED == 0:
            checksum = zlib.crc32(memoryview(self._block)[:length])
            self._samples.append((self.digest.size, length, checksum))
        self._blocks += 1
        before = self.digest.size // _WINDOW_BYTES
        self.digest.update(self._block, length)
        place = self.digest.size // _WINDOW_BYTES
        if place > before:
            # two windows: what is under way to the disk at the first call goes at the second
            start = max(0, place - 2) * _WINDOW_BYTES
            os.posix_fadvise(
                self._file.fileno(),
                start,
                place * _WINDOW_BYTES - start,
                os.POSIX_FADV_DONTNEED,
            )
        return True

    def is_unchanged(self) -> bool:
        """Whether the sampled blocks are still what they were when they passed."""
        return all(
            zlib.crc32(os.pread(self._file.fileno(), length, place)) == checksum
            for place, length, checksum in self._samples
        )

    def close(self) -> None:
        self._file.close()


def _appended(folder: Path) -> list[Path]:
    # not rglob, which raises where a writer's own folder goes while it looks
    return [
        Path(inside, name)
        for inside, _, names in os.walk(folder)
        for name in names
        if name in APPENDED
    ]
