"""The source tree on disk: its files, its record, and the state that a later run starts from."""

import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import RecordError, read_record, write_record
from phiforge.artifact.scratch import remove_tree
from phiforge.artifact.tree import link_or_copy, sha256_file
from phiforge.sources.checkpoint import SELECTION
from phiforge.sources.source import FirstLayers, HubSource, Source, SourceError

_SPARE_BYTES = 64 << 20


@dataclass(frozen=True)
class SourceFile:
    """A verified file: name, size in bytes, hex SHA-256, and git blob id where the Hub gave it."""

    path: str
    size: int
    sha256: str
    git_blob: str | None = None

    def entry(self) -> dict[str, Any]:
        """Return the file as SOURCE.json lists it."""
        entry: dict[str, Any] = {"path": self.path, "sha256": self.sha256, "size": self.size}
        return {**entry, "git_blob": self.git_blob} if self.git_blob else entry


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
        """Downloads that are not in place yet, each named by the digest its bytes must have."""
        return self.folder / ".download"

    @property
    def _state(self) -> Path:
        # Snakemake deletes SOURCE.json before it runs the job again; this stays.
        return self.folder / ".verified.json"

    def invalidate(self) -> None:
        """Remove the records before the files that they describe change."""
        self.record.unlink(missing_ok=True)
        self._state.unlink(missing_ok=True)

    def save_state(self, source: Source, files: Sequence[SourceFile]) -> None:
        """Write the records of ``files``, which are in their place."""
        entries = [file.entry() for file in sorted(files, key=lambda file: file.path)]
        if isinstance(source, HubSource):
            write_record(self._state, {**_state_of(source), "files": entries})
        write_record(self.record, {**_origin(source), "files": entries})
        remove_tree(self.unfinished)

    def load_cached(self, source: HubSource, scratch: Path) -> list[SourceFile] | None:
        """Link the files of an earlier run into ``scratch`` if all of them still verify.

        Returns None, with ``scratch`` empty, if this commit is not complete on disk.
        """
        try:
            state = read_record(self._state)
            files = [SourceFile(**entry) for entry in state.pop("files")]
        except (RecordError, KeyError, TypeError):
            return None
        digests = {file.path: file.sha256 for file in files}
        if state != _state_of(source) or not source.sha256.items() <= digests.items():
            return None
        if not all(self._present(file) for file in files):
            return None
        for file in files:
            link_or_copy(self.files / file.path, scratch / file.path)
        return files

    def _present(self, file: SourceFile) -> bool:
        path = self.files / file.path
        return path.is_file() and not path.is_symlink() and sha256_file(path) == file.sha256

    def drop_stale(self, digests: Collection[str]) -> None:
        """Remove the unfinished downloads of other commits."""
        for path in self.unfinished.glob("*"):
            if path.name not in digests:
                path.unlink()

    def reuse(self, name: str, size: int, target: Path) -> None:
        """Link a file of the present tree as ``target`` if it has the size of the wanted file."""
        path = self.files / name
        usable = path.is_file() and not path.is_symlink() and path.stat().st_size == size
        if usable and (not target.exists() or target.stat().st_size != size):
            target.unlink(missing_ok=True)
            link_or_copy(path, target)


def _origin(source: Source) -> dict[str, Any]:
    if isinstance(source, HubSource):
        return {"kind": "hub", "repo": source.repo, "revision": source.revision}
    if isinstance(source, FirstLayers):
        return {"kind": "first-layers", "model": source.model, "layers": source.layers}
    return {"kind": "local"}


def _state_of(source: HubSource) -> dict[str, Any]:
    return {**_origin(source), "selection": list(SELECTION)}


def check_disk(folder: Path, wanted: int) -> None:
    """Check that ``wanted`` more bytes fit below ``folder``.

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
