"""Refuse work that this machine cannot hold, before it begins: the kernel would kill it halfway."""

import psutil

from phiforge.control_groups import limit_of_container
from phiforge.errors import PhiforgeError


class MemoryTooSmallError(PhiforgeError):
    """A job needs more memory than there is."""


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
