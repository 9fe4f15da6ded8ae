"""Folders that appear whole: scratch beside the target, digests, links, one rename at the end."""

import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from phiforge.artifact.file_lock import file_lock
from phiforge.errors import PhiforgeError

_BLOCK = 1 << 22


class TreeError(PhiforgeError):
    """A folder holds what it must not, lacks what it must, or is in use by another job."""


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob_id(path: Path) -> str:
    """Return a file's hex git object id: SHA-1 of ``blob <size>``, a NUL, and the bytes."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def copy_with_sha256(source: Path, target: Path) -> str:
    """Copy a file's bytes and return their hex SHA-256, reading them once."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while block := reader.read(_BLOCK):
            digest.update(block)
            writer.write(block)
    return digest.hexdigest()


def files_under(folder: Path) -> list[Path]:
    """Every regular file below ``folder``, relative to it, in one order on every machine.

    Raises:
        TreeError: a symbolic link or a special file is there; a payload holds neither.
    """
    found = []
    for path in folder.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise TreeError(
                "only regular files and folders belong here",
                where=path,
                remedy="replace it by a copy of what it points to",
            )
        if path.is_file():
            found.append(path.relative_to(folder))
    return sorted(found, key=lambda path: path.as_posix())


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link ``source`` as ``target``, or copy it where links do not reach (other disk)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def fresh_tree(target: Path) -> Iterator[Path]:
    """Yield an empty scratch folder beside ``target``; it takes the target's place on success.

    One holder at a time (an advisory lock beside the target): a job that outlives its killed
    Snakemake cannot write into its successor's folder. On any failure the target keeps what
    it had and the scratch is removed.

    Raises:
        TreeError: another process holds the lock.
    """
    scratch = target.with_name(f".{target.name}.partial")
    busy = partial(_busy, target)
    with file_lock(target.with_name(f".{target.name}.lock"), busy=busy):
        _recover(target)
        remove_tree(scratch)
        scratch.mkdir()
        try:
            yield scratch
            _put_in_place(scratch, target)
        finally:
            remove_tree(scratch)


def _busy(target: Path, holder: str) -> TreeError:
    return TreeError(
        f"another job (process {holder}) is writing here",
        where=target,
        remedy="wait for it to end, or kill it, then run again",
    )


def _put_in_place(scratch: Path, target: Path) -> None:
    """Swap the two in one step; afterwards the scratch name holds what the target held."""
    if not target.exists():
        scratch.rename(target)
        return
    _exchange(scratch, target)


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _exchange(one: Path, other: Path) -> None:
    """renameat2(2) with RENAME_EXCHANGE: at no moment is either name missing."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    if done == 0:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(other))
    # A file system without the exchange (NFS, some overlays): two renames, the closest there is.
    aside = other.with_name(f".{other.name}.replaced")
    remove_tree(aside)
    other.rename(aside)
    one.rename(other)
    aside.rename(one)


def _recover(target: Path) -> None:
    """Undo half of an exchange by two renames that was killed in between."""
    aside = target.with_name(f".{target.name}.replaced")
    if aside.exists() and not target.exists():
        aside.rename(target)
    remove_tree(aside)


def remove_tree(folder: Path) -> None:
    """Remove a folder that may hold read-only files; a missing one is fine."""
    if folder.exists():
        shutil.rmtree(folder)


def make_read_only(folder: Path) -> None:
    """Take the write permission from every file below ``folder``."""
    for name in files_under(folder):
        path = folder / name
        path.chmod(path.stat().st_mode & 0o555)
