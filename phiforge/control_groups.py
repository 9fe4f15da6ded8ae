"""Read what the kernel says of memory: the limit of our control groups, and how often it killed."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from phiforge.errors import PhiforgeError

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")
_COUNTERS = Path("/proc/vmstat")
_KILLS = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKillError(PhiforgeError):
    """The kernel killed for want of memory while work was done."""


def limit_of_container() -> int | None:
    """Return how many bytes the control groups that we run in may use; None: no limit is set."""
    files = _own_limits()
    limits = [int(text) for text in files if text.strip().isdigit()]
    return min(limits, default=None)


def memory_kills() -> int:
    """Return how often the kernel has killed for want of memory, in any control group or in none.

    Of whom is not said, so a neighbour's death counts too: who judges must not be in doubt.
    """
    try:
        found = _KILLS.search(_COUNTERS.read_text(encoding="ascii"))
    except OSError:
        return 0
    return int(found[1]) if found else 0


def refuse_memory_kill(before: int, work: str) -> None:
    """Refuse to judge what ended badly while the kernel killed for want of memory.

    Args:
        before: `memory_kills` before the work.
        work: what was done, for the message.

    Raises:
        MemoryKillError: the kernel has killed since.
    """
    if memory_kills() > before:
        raise MemoryKillError(
            f"the kernel killed for want of memory during {work}, which is no verdict",
            remedy="give the job more memory (on a cluster --set-resources check:mem_mb=…), and run"
            " again",
        )


def _own_limits() -> Iterator[str]:
    """Yield the text of the limit of our control group and of each that it is in.

    A container sees its own group as the root; systemd's slices are groups below it.
    """
    try:
        lines = _OWN_CGROUPS.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    found = [_CGROUPS / "memory.max"]
    for line in lines:
        _, controllers, path = line.split(":", 2)
        group = PurePosixPath(path.lstrip("/"))
        for one in (group, *group.parents):
            if controllers == "":
                found.append(_CGROUPS / one / "memory.max")
            elif "memory" in controllers.split(","):
                found.append(_CGROUPS / "memory" / one / "memory.limit_in_bytes")
    for file in found:
        with suppress(OSError):
            yield file.read_text(encoding="ascii")
