"""Copy a checkpoint from a local folder, verified against the folder's own checksums."""

from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import parse_checksums
from phiforge.artifact.tree import copy_with_sha256, sha256_file
from phiforge.sources.checkpoint import (
    CONFIG,
    WEIGHTS_INDEX,
    check_architecture,
    check_checkpoint,
    choose_files,
    is_pickle,
    shards,
)
from phiforge.sources.local_digests import states
from phiforge.sources.source import LocalSource, SourceError
from phiforge.sources.tree import SourceFile, check_disk


def copy_local(source: LocalSource, scratch: Path) -> list[SourceFile]:
    """Fill ``scratch`` with the checkpoint files of a folder; every recorded file is verified.

    Raises:
        SourceError: the folder is not what its checksums file says, a file that belongs to the
            checkpoint is not listed in it, a file is a link, or there is no checkpoint.
    """
    folder = source.path
    if not folder.is_dir():
        raise SourceError("there is no such folder", where=folder)
    listed = read_checksums(folder / source.checksums)
    for name in listed:
        if is_pickle(name):
            raise SourceError(
                f"{name} is a pickle, and loading a pickle runs code from it",
                where=folder,
                remedy="keep the weights as safetensors, and take the file out of the folder "
                f"and of {source.checksums}",
            )
        _check_regular(folder / name, f"{source.checksums} lists {name}, which is missing")
    chosen = _choose(source, listed)
    check_disk(scratch, sum((folder / name).stat().st_size for name in chosen))
    for name, recorded in sorted(listed.items()):
        if name in chosen:
            found = copy_with_sha256(folder / name, scratch / name)
        else:
            found = sha256_file(folder / name)
        if found != recorded:
            raise SourceError(
                f"{name} is not the file that {source.checksums} records",
                where=folder,
                expected=recorded,
                found=found,
                remedy="restore the file; record it anew only if you know why it changed",
            )
    check_checkpoint({name: scratch / name for name in chosen}, str(folder))
    return [SourceFile(name, (scratch / name).stat().st_size, listed[name]) for name in chosen]


def listed_states(source: LocalSource) -> dict[str, dict[str, Any]]:
    """Return size, time and recorded digest of each file, for `local_digests.remember`.

    Raises:
        SourceError: see `read_checksums`.
    """
    listed = read_checksums(source.path / source.checksums)
    found = states(source.path, listed)
    return {name: {**state, "sha256": listed[name]} for name, state in found.items()}


def read_checksums(path: Path) -> dict[str, str]:
    """Return file name to hex SHA-256, from a file as ``sha256sum`` writes it (GNU coreutils).

    Raises:
        SourceError: it is missing or empty, or not text.
        ChecksumsError: a line is not of that form, or names what it must not.
    """
    _check_regular(path, "the checksums file is missing", f"sha256sum * > {path.name} makes one")
    try:
        listed = parse_checksums(path.read_text(encoding="utf-8"), path)
    except UnicodeDecodeError:
        raise SourceError("not a text of checksums", where=path) from None
    listed.pop(path.name, None)  # made by "sha256sum *" a second time, it lists itself
    if not listed:
        raise SourceError("lists no file", where=path)
    return listed


def _choose(source: LocalSource, listed: dict[str, str]) -> list[str]:
    folder = source.path
    if (folder / CONFIG).is_file():
        check_architecture(folder / CONFIG, str(folder))
    chosen = choose_files([entry.name for entry in folder.iterdir()], str(folder))
    if WEIGHTS_INDEX in chosen:
        _check_regular(folder / WEIGHTS_INDEX, "is missing")
        for name in shards(folder / WEIGHTS_INDEX, str(folder)):
            _check_regular(folder / name, f"{WEIGHTS_INDEX} names {name}, which is missing")
            chosen.append(name)
    for name in chosen:
        if name not in listed:
            raise SourceError(
                f"{name} belongs to the model and has no checksum in {source.checksums}",
                where=folder,
                remedy="record it, once you know that it is the right file",
            )
    return sorted(chosen)


def _check_regular(path: Path, missing: str, remedy: str | None = None) -> None:
    """Refuse what is not a regular file in its folder."""
    if path.is_symlink():
        raise SourceError(
            "a link is no source: what it points to can change",
            where=path,
            remedy="copy the folder with its links resolved (cp -rL)",
        )
    if not path.exists():
        raise SourceError(missing, where=path.parent, remedy=remedy)
    if not path.is_file():
        raise SourceError("not a regular file", where=path)
