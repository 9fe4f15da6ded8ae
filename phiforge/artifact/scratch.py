"""Scratch that no two processes share: it bears its host and its process.

A lock is not enough where several hosts write: sshfs, NFS with ``local_lock`` and others share
none. Where a file is deleted while it is open, NFS and FUSE keep it under another name (``.nfs…``,
``.fuse_hidden…``) until it is closed; its folder stays, empty then, for the next writer to remove.
"""

import glob
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname

_ENDING = ".partial"
_IDLE_S = 24 * 3600
"""Seconds without a write after which another host's scratch is held to be a dead process's."""


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target`` that is removed at the end."""
    for left in abandoned(target):
        remove_tree(left)
    scratch = _own(target)
    scratch.mkdir(parents=True)
    try:
        yield scratch
    finally:
        remove_tree(scratch)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a name beside ``target`` to write a file to; it takes the target's place on success.

    Whoever reads ``target`` sees the old file or the new one. Parent folders are made.
    """
    with scratch_file(target) as scratch:
        yield scratch
        scratch.replace(target)


@contextmanager
def scratch_file(target: Path) -> Iterator[Path]:
    """Yield a name beside ``target`` to write a file to, which is removed at the end."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in abandoned(target):
        with suppress(OSError):
            left.unlink()
    scratch = _own(target)
    try:
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def abandoned(target: Path) -> list[Path]:
    """Return the scratch that dead processes left beside ``target``.

    On this host they are known by their number; on others by having written nothing for a day.
    """
    found = []
    for path in target.parent.glob(f".{glob.escape(target.name)}.*{_ENDING}"):
        rest, _, process = path.name.removesuffix(_ENDING).rpartition(".")
        here = rest == f".{target.name}.{gethostname()}" and process.isdecimal()
        if (here and not _another_runs(int(process))) or _idle(path):
            found.append(path)
    return found


def remove_tree(folder: Path) -> None:
    """Remove a folder that may hold read-only files; one that a reader has open may stay."""
    shutil.rmtree(folder, ignore_errors=True)


def _own(target: Path) -> Path:
    return target.with_name(f".{target.name}.{gethostname()}.{os.getpid()}{_ENDING}")


def _another_runs(process: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end it
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def _idle(scratch: Path) -> bool:
    try:
        last = max(path.stat().st_mtime for path in (scratch, *scratch.rglob("*")))
    except OSError:  # it was removed meanwhile
        return False
    return last < time.time() - _IDLE_S
