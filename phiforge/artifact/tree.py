"""Folders that appear whole: scratch beside the target, digests, links, one rename at the end."""

import ctypes
import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from phiforge.artifact.file_lock import file_lock
from phiforge.artifact.scratch import abandoned, scratch_folder
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
    """Yield an empty scratch folder near ``target``; it takes the target's place on success.

    One holder at a time (an advisory lock beside the target): a job that outlives its killed
    Snakemake does not work beside its successor. Where hosts share no locks, each writes a folder
    of its own, and the last to end has the place. On any failure the target keeps what it had and
    the scratch is removed.

    Raises:
        TreeError: another process holds the lock.
    """
    busy = partial(_busy, target)
    with file_lock(target.with_name(f".{target.name}.lock"), busy=busy):
        for left in abandoned(target):
            _put_back(left, target)
        with scratch_folder(target) as scratch:
            new = scratch / target.name
            new.mkdir()
            try:
                yield new
                _put_in_place(new, target)
            except BaseException:
                _put_back(scratch, target)
                raise


def _busy(target: Path, holder: str) -> TreeError:
    return TreeError(
        f"another job (process {holder}) is writing here",
        where=target,
        remedy="wait for it to end, or kill it, then run again",
    )


_REPLACED = "replaced"
_ATTEMPTS = 10


def _put_in_place(new: Path, target: Path) -> None:
    """Put ``new`` in the target's place; what it replaces stays in the scratch."""
    if _exchange(new, target):
        return
    for attempt in range(_ATTEMPTS):
        try:
            with suppress(FileNotFoundError):
                target.rename(new.with_name(f"{_REPLACED}-{attempt}"))
            new.rename(target)
            return
        except OSError:  # perhaps another host's tree came between the two; sshfs does not say
            if attempt + 1 == _ATTEMPTS:
                raise


_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _exchange(one: Path, other: Path) -> bool:
    """renameat2(2) with RENAME_EXCHANGE: at no moment is either name missing.

    Returns False where there is no ``other``, and on file systems that cannot (NFS, FUSE).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE
    )
    code = ctypes.get_errno()
    if done != 0 and code not in (errno.ENOENT, errno.EINVAL, errno.ENOSYS):
        raise OSError(code, os.strerror(code), str(other))
    return bool(done == 0)


def _put_back(scratch: Path, target: Path) -> None:
    """Undo half of a replacement by two renames that failed or was killed in between."""
    for replaced in sorted(scratch.glob(f"{_REPLACED}-*"), reverse=True):
        if not target.exists():
            with suppress(OSError):  # another host's tree came first
                replaced.rename(target)


def make_read_only(folder: Path) -> None:
    """Take the write permission from every file below ``folder``."""
    for name in files_under(folder):
        path = folder / name
        path.chmod(path.stat().st_mode & 0o555)
