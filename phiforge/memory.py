"""Refuse work that this machine cannot hold, before it begins: the kernel would kill it halfway."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import psutil

from phiforge.errors import PhiforgeError

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")


class MemoryTooSmallError(PhiforgeError):
    """A job needs more memory than there is."""


def limit_of_container() -> int | None:
    """Return how many bytes the control groups that we run in may use; None: no limit is set."""
    limits = []
    for path in _limit_files():
        try:
            limit = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if limit.isdigit():
            limits.append(int(limit))
    return min(limits, default=None)


def _limit_files() -> Iterator[Path]:
    """Yield the limit of our control group and of each that it is in, version 2's and 1's.

    A container sees its own group as the root; systemd's slices are groups below it.
    """
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    yield _CGROUPS / "memory.max"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        for one in (group, *group.parents):
            if controllers == "":
                yield _CGROUPS / one / "memory.max"
            elif "memory" in controllers.split(","):
                yield _CGROUPS / "memory" / one / "memory.limit_in_bytes"


def machine_memory_mb() -> int:
    """Return what this machine, or the container that we run in, has at most, in megabytes."""
    total = psutil.virtual_memory().total
    return min(total, limit_of_container() or total) // 1_000_000


def refuse_too_little_memory(work: str, needed_mb: int) -> None:
    """Refuse what the machine cannot hold; Snakemake only caps a job at its budget.

    Args:
        work: what is to be done, for the message.
        needed_mb: its estimated peak, in megabytes (1e6 bytes).

    Raises:
        MemoryTooSmallError: that is more than this machine or container has.
    """
    machine_mb = machine_memory_mb()
    if needed_mb > machine_mb:
        raise MemoryTooSmallError(
            f"{work} does not fit this machine",
            expected=f"{needed_mb} MB of memory",
            found=f"{machine_mb} MB",
            remedy="run it on a larger machine, or leave the variant out with --config variants=",
        )
