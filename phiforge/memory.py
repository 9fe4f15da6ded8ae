"""Refuse work that this machine cannot hold, before it begins: the kernel would kill it halfway."""

from pathlib import Path

import psutil

from phiforge.errors import PhiforgeError

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


class MemoryTooSmallError(PhiforgeError):
    """A job needs more memory than there is."""


def limit_of_container() -> int | None:
    """Return how many bytes the control group that we run in may use; None: no limit is set."""
    try:
        limit = _CGROUP_LIMIT.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(limit) if limit.isdigit() else None


def refuse_too_little_memory(work: str, needed_mb: int) -> None:
    """Refuse what the machine cannot hold; Snakemake only caps a job at its budget.

    Args:
        work: what is to be done, for the message.
        needed_mb: its estimated peak, in megabytes (1e6 bytes).

    Raises:
        MemoryTooSmallError: that is more than this machine or container has.
    """
    total = psutil.virtual_memory().total
    machine_mb = min(total, limit_of_container() or total) // 1_000_000
    if needed_mb > machine_mb:
        raise MemoryTooSmallError(
            f"{work} does not fit this machine",
            expected=f"{needed_mb} MB of memory",
            found=f"{machine_mb} MB",
            remedy="run it on a larger machine, or leave the variant out with --config variants=",
        )
