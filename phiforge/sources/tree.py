"""The source tree in its place: what it holds, its record, and what is remembered of it."""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import RecordError, read_record, write_record
from phiforge.artifact.tree import TreeError, files_under, link_or_copy, sha256_file
from phiforge.sources.checkpoint import SELECTION
from phiforge.sources.request import HubSource, Source, SourceError

_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class SourceFile:
    """A verified file: name, size in bytes, hex SHA-256, and git blob id where the Hub gave it."""

    path: str
    size: int
    sha256: str
    git_blob: str | None = None

    def entry(self) -> dict[str, Any]:
        """The file as SOURCE.json lists it."""
        entry: dict[str, Any] = {"path": self.path, "sha256": self.sha256, "size": self.size}
        if self.git_blob:
            entry["git_blob"] = self.git_blob
        return entry


@dataclass(frozen=True)
class SourceTree:
    """``artifacts/source/<model>``: ``files/``, ``SOURCE.json`` and what a rerun needs."""

    folder: Path

    @property
    def files(self) -> Path:
        """The verified files; replaced as a whole."""
        return self.folder / "files"

    @property
    def record(self) -> Path:
        """SOURCE.json, written last."""
        return self.folder / "SOURCE.json"

    @property
    def unfinished(self) -> Path:
        """Downloads that are not placed yet, each named by the digest its bytes must have."""
        return self.folder / ".download"

    @property
    def _memory(self) -> Path:
        return self.folder / ".verified.json"

    def forget(self) -> None:
        """Take the records away before the files that they describe change."""
        self.record.unlink(missing_ok=True)
        self._memory.unlink(missing_ok=True)

    def remember(self, source: Source, files: Sequence[SourceFile]) -> None:
        """Write the records of ``files``, which are in their place."""
        record = _record(source, files)
        if isinstance(source, HubSource):
            # Snakemake deletes SOURCE.json before it runs the job again; this stays.
            write_record(self._memory, {**record, "selection": list(SELECTION)})
        write_record(self.record, record)
        if self.unfinished.exists():
            shutil.rmtree(self.unfinished)

    def recall(self, source: HubSource, scratch: Path) -> list[SourceFile] | None:
        """Link the files of an earlier run into ``scratch`` where all of them still verify.

        Returns None, with ``scratch`` empty, where this commit is not here or not intact.
        """
        try:
            memory = read_record(self._memory)
            files = [SourceFile(**entry) for entry in memory.pop("files")]
        except (RecordError, KeyError, TypeError):
            return None
        pinned = {file.path: file.sha256 for file in files if file.path in source.sha256}
        asked = {**_record(source, ()), "selection": list(SELECTION)}
        del asked["files"]
        if memory != asked or pinned != source.sha256 or not self.files.is_dir():
            return None
        if not self._holds(files):
            print(f"{self.files}: not as it was verified; repairing it", file=sys.stderr)
            return None
        for file in files:
            link_or_copy(self.files / file.path, scratch / file.path)
        return files

    def _holds(self, files: Sequence[SourceFile]) -> bool:
        try:
            names = {path.as_posix() for path in files_under(self.files)}
        except TreeError:
            return False
        return names == {file.path for file in files} and all(
            sha256_file(self.files / file.path) == file.sha256 for file in files
        )

    def reuse(self, name: str, size: int, target: Path) -> None:
        """Link a file of the present tree as ``target`` where it may be the one wanted."""
        present = self.files / name
        usable = present.is_file() and not present.is_symlink() and present.stat().st_size == size
        if usable and (not target.exists() or target.stat().st_size != size):
            target.unlink(missing_ok=True)
            link_or_copy(present, target)


def _record(source: Source, files: Sequence[SourceFile]) -> dict[str, Any]:
    origin: dict[str, Any] = {"kind": "local"}
    if isinstance(source, HubSource):
        origin = {"kind": "hub", "repo": source.repo, "revision": source.revision}
    ordered = sorted(files, key=lambda file: file.path)
    return {**origin, "files": [file.entry() for file in ordered]}


def check_disk(folder: Path, wanted: int) -> None:
    """See that ``wanted`` more bytes fit below ``folder``.

    Raises:
        SourceError: they do not.
    """
    free = shutil.disk_usage(folder).free
    if wanted + _SPARE_BYTES > free:
        raise SourceError(
            "not enough disk space",
            where=folder,
            expected=f"{(wanted + _SPARE_BYTES) / 1e9:.2f} GB free",
            found=f"{free / 1e9:.2f} GB",
            remedy="free space, or put artifacts/ on a larger disk",
        )
