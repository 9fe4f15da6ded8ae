"""Run a command and watch its whole process tree: time, memory, bytes moved.

Linux only: resident and anonymous memory and bytes are read from ``/proc`` (proc(5): ``status``,
``io``, ``stat``), twenty times a second, and summed over the processes of a group.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

_PERIOD_S = 0.05
_TICKS = os.sysconf("SC_CLK_TCK")

Group = Callable[[Sequence[str]], str | None]
"""Command line to the name of the group that the process begins; None: its parent's group."""


@dataclass
class Usage:
    """What one group of processes took.

    Attributes:
        wall_s: from when its first process was seen to when its last one was.
        cpu_s: user and system time.
        peak_resident_mb: largest sum of resident memory, mapped files included.
        peak_anonymous_mb: largest sum of resident memory that no file backs.
        read_mb: read from storage (what the page cache gave is not in it).
        written_mb: handed to storage.
        exit_code: of the command; 0 for a group inside it.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_resident_mb: float = 0.0
    peak_anonymous_mb: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0
    exit_code: int = 0

    def rounded(self) -> dict[str, float]:
        return {name: round(value, 2) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class _Sample:
    group: str
    cpu_s: float
    resident_mb: float
    anonymous_mb: float
    read_mb: float
    written_mb: float


def measure(
    command: Sequence[str],
    *,
    log: Path,
    group: Group = lambda command: None,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> dict[str, Usage]:
    """Run ``command``; return the usage of every group, and of everything under ``""``.

    Data of earlier commands is written out first, so that they do not slow this one.
    """
    os.sync()
    last: dict[int, _Sample] = {}
    seen: dict[str, tuple[float, float]] = {}
    usages: dict[str, Usage] = {"": Usage()}
    with log.open("wb") as stream:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            cwd=cwd,
        )
        while process.poll() is None:
            now = time.monotonic()
            current = dict(_tree(process.pid, "", group))
            last |= current
            for name in {"", *(sample.group for sample in current.values())}:
                samples = [one for one in current.values() if name in ("", one.group)]
                usage = usages.setdefault(name, Usage())
                resident = sum(one.resident_mb for one in samples)
                anonymous = sum(one.anonymous_mb for one in samples)
                usage.peak_resident_mb = max(usage.peak_resident_mb, resident)
                usage.peak_anonymous_mb = max(usage.peak_anonymous_mb, anonymous)
                seen[name] = (seen.get(name, (now, now))[0], now)
            time.sleep(_PERIOD_S)
        usages[""].wall_s = time.monotonic() - started
    usages[""].exit_code = process.returncode
    for name, usage in usages.items():
        samples = [one for one in last.values() if name in ("", one.group)]
        usage.cpu_s = sum(one.cpu_s for one in samples)
        usage.read_mb = sum(one.read_mb for one in samples)
        usage.written_mb = sum(one.written_mb for one in samples)
        if name:
            first, final = seen[name]
            usage.wall_s = final - first
    return usages


def _tree(pid: int, inherited: str, group: Group) -> list[tuple[int, _Sample]]:
    """A sample of the process and of every one below it that still lives."""
    folder = Path("/proc", str(pid))
    try:
        command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        name = group(command) or inherited
        found = [(pid, _sample(folder, name))]
        children = [
            int(child)
            for task in (folder / "task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except (OSError, KeyError, ValueError):
        return []  # it ended while we looked
    for child in children:
        found += _tree(child, name, group)
    return found


def _sample(folder: Path, group: str) -> _Sample:
    status = _fields(folder / "status")
    moved = _fields(folder / "io")
    times = (folder / "stat").read_text().rsplit(")", 1)[1].split()
    return _Sample(
        group=group,
        cpu_s=(int(times[11]) + int(times[12])) / _TICKS,
        resident_mb=int(status["VmRSS"].split()[0]) * 1024 / 1e6,
        anonymous_mb=int(status["RssAnon"].split()[0]) * 1024 / 1e6,
        read_mb=int(moved["read_bytes"]) / 1e6,
        written_mb=int(moved["write_bytes"]) / 1e6,
    )


def _fields(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}
