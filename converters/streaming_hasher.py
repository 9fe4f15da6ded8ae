"""Digests of large files, computed while their writers append to them.

A payload's weights are gigabytes, and their writers (OpenVINO, onnx-ir) compute no digests.
Reading each file once more costs as much as writing it, and leaves its pages in the page cache,
where they push out the source that every conversion reads. A thread reads behind the writer, and
asks the kernel to write the pages to the disk and drop them (posix_fadvise(2), POSIX_FADV_DONTNEED,
also starts the writing of dirty pages).

Whether a writer really only appended is checked at the end, in samples: a file that was given its
size first and filled afterwards gets no digest here, and must be read again.
"""

import os
import zlib
from collections.abc import Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from threading import Event, Thread

from phiforge.artifact.file_digest import BLOCK_BYTES, FileDigest
from phiforge.artifact.payload_files import ONNX_WEIGHTS, OPENVINO_WEIGHTS

APPENDED = (OPENVINO_WEIGHTS, ONNX_WEIGHTS)
"""Files that their writers only append to."""

_PERIOD_S = 0.05
_LARGE_BYTES = 1 << 28
_WINDOW_BYTES = 1 << 27
_SAMPLED = 32  # every so many blocks


class StreamingHasher:
    """Reads the `APPENDED` files below a folder while they grow, within a ``with`` block."""

    def __init__(self, folder: Path, denied_strings: Sequence[str]) -> None:
        """Search the bytes for ``denied_strings`` as well (`FileDigest`)."""
        self._folder = folder
        self._denied_strings = denied_strings
        self._tailed: dict[tuple[int, int], _TailedFile] = {}  # by device and inode
        self._files = ExitStack()
        self._ended = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "StreamingHasher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._files.close()

    def digests(self) -> dict[Path, FileDigest]:
        """Return the digests by name below the folder; call it once all writers have ended."""
        self._stop()
        complete = {}
        for path in self._appended():
            status = path.stat()
            if tailed := self._tailed.get((status.st_dev, status.st_ino)):
                while tailed.read_block():
                    pass
                if tailed.digest.size == status.st_size and tailed.is_unchanged():
                    complete[path.relative_to(self._folder)] = tailed.digest
        return complete

    def _stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD_S):
            for path in self._appended():
                self._tail(path)
            for tailed in self._tailed.values():
                while tailed.read_block() and not self._ended.is_set():
                    pass

    def _appended(self) -> list[Path]:
        # not rglob, which raises where a writer removes its own folder meanwhile
        walk = os.walk(self._folder)
        return [Path(at, name) for at, _, names in walk for name in names if name in APPENDED]

    def _tail(self, path: Path) -> None:
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return  # moved or removed meanwhile
        status = os.fstat(file.fileno())  # of the open file, whatever has its name by now
        key = (status.st_dev, status.st_ino)
        if key in self._tailed or status.st_size < _LARGE_BYTES:
            file.close()
        else:
            self._tailed[key] = _TailedFile(self._files.enter_context(file), self._denied_strings)


class _TailedFile:
    """One growing file, read up to where its writer is."""

    def __init__(self, file: FileIO, denied_strings: Sequence[str]) -> None:
        self.digest = FileDigest(denied_strings)
        self._file = file
        self._block = bytearray(BLOCK_BYTES)
        self._blocks = 0
        self._samples: list[tuple[int, int, int]] = []  # offset, length, checksum

    def read_block(self) -> bool:
        """Digest the next block, or the part of it that is written; False: nothing is."""
        length = self._file.readinto(self._block)
        if not length:
            return False
        if self._blocks % _SAMPLED == 0:
            checksum = zlib.crc32(memoryview(self._block)[:length])
            self._samples.append((self.digest.size, length, checksum))
        self._blocks += 1
        window = self.digest.size // _WINDOW_BYTES
        self.digest.update(self._block, length)
        if self.digest.size // _WINDOW_BYTES > window:
            # two windows: pages on their way to the disk at the first call go at the second
            start, end = max(0, window - 1) * _WINDOW_BYTES, (window + 1) * _WINDOW_BYTES
            os.posix_fadvise(self._file.fileno(), start, end - start, os.POSIX_FADV_DONTNEED)
        return True

    def is_unchanged(self) -> bool:
        """Return whether the sampled blocks still have the bytes that were digested."""
        return all(
            zlib.crc32(os.pread(self._file.fileno(), length, offset)) == checksum
            for offset, length, checksum in self._samples
        )
