"""Kill a command at each of its writes, run it again, and hold what stands to an undisturbed run.

Python audits every call that changes a file system
(https://docs.python.org/3.11/library/audit_events.html), whichever library makes it. A command runs
in a fork of this process, so that nothing is imported again. What it does is counted once, from the
same state each time: a kill comes before a call, and with a file that is opened for writing also
while it is empty, and as soon as its second hundred bytes are to be written.
"""

import copy
import io
import os
import resource
import shutil
import signal
import stat
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from phiforge.cli import main
from support.hub_server import HubServer

BEFORE, EMPTY, PARTIAL = "before", "empty", "partial"
UNSERVED, UNANSWERED = "unserved", "unanswered"  # requests
_PARTIAL_BYTES = 100
_CALLS = (
    "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
    "os.truncate",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

Tree = Mapping[str, tuple[int, bytes | str | None]]
Kill = tuple[int, str]  # at which write, and how
Point = tuple[int, str, str]  # and what it is
NO_KILL: Kill = (0, "")


@dataclass(frozen=True)
class Scenario:
    """A command, the state that it starts from, and what must stand afterwards.

    Attributes:
        start: a folder; each attempt has a copy of it, always at the same place.
        command: its arguments, as a rule gives them, or a function; they run in the copy.
        judge: say in a word what stands in the copy (``old``, ``new``); it fails where what stands
            is not whole. Asked after the kill and after the run that follows.
        vary: patterns of files whose bytes differ from run to run (signatures, times).
        kept: patterns of files that a kill may leave for good: locks, whose content is nothing, and
            the file by which Python's tempfile tries a folder out.
        server: what the command writes to besides; its requests count as writes.
    """

    name: str
    start: Path
    command: tuple[str, ...] | Callable[[], object]
    judge: Callable[[Path], str]
    vary: tuple[str, ...] = ()
    kept: tuple[str, ...] = ("*.lock", "tmp/????????")
    environment: Mapping[str, str] = field(default_factory=dict)
    server: HubServer | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a scenario.

    Attributes:
        writes: the calls that were counted, ``open`` and requests among them.
        kills: how many kills came; each was followed by a run that ended well.
        stood: what `Scenario.judge` said after a kill, to how often.
        faults: in one line each, what was not as it must be.
    """

    writes: int
    kills: int
    stood: Mapping[str, int]
    faults: tuple[str, ...]


def kill_at_each_write(scenario: Scenario, sample: int | None = None) -> Outcome:
    """Kill the command at each of its writes, or at ``sample`` of them, evenly spread.

    Raises:
        AssertionError: it does not end well undisturbed.
    """
    with tempfile.TemporaryDirectory(prefix="phiforge-kills-") as folder:
        return _Attempts(scenario, Path(folder).resolve()).all(sample)


class _Attempts:
    def __init__(self, scenario: Scenario, folder: Path) -> None:
        self._scenario = scenario
        self._place, self._counted = folder / "place", folder / "counted"
        self._output = folder / "output"
        self._served = _Served(scenario.server) if scenario.server else None

    def all(self, sample: int | None) -> Outcome:
        status = self._run(NO_KILL, fresh=True)
        assert status == 0, self._output.read_text()
        points = self._points()
        undisturbed, expected = tree_of(self._place), self._scenario.judge(self._place)
        stood: dict[str, int] = {}
        faults: list[str] = []
        kills = 0
        for number, how, what in _spread(points, sample):
            shown = f"{self._scenario.name}, {how} write {number} ({what})"
            try:
                if os.WIFSIGNALED(self._run((number, how), fresh=True)):
                    kills += 1
                elif how != PARTIAL:  # a file may be too small
                    faults.append(f"{shown}: not killed: {self._told()}")
                stands = self._scenario.judge(self._place)
                stood[stands] = stood.get(stands, 0) + 1
                if self._run(NO_KILL) != 0:
                    faults.append(f"{shown}: run again: {self._told()}")
                    continue
                after = self._scenario.judge(self._place)
                if after != expected:
                    faults.append(f"{shown}: {after} stands, not {expected}")
                faults += [f"{shown}: {one}" for one in self._differences(undisturbed)]
            except AssertionError as error:
                faults.append(f"{shown}: {' '.join(str(error).split())[:300]}")
        writes = sum(how in (BEFORE, UNSERVED) for _, how, _ in points)
        return Outcome(writes, kills, stood, tuple(faults))

    def _points(self) -> list[Point]:
        lines = self._counted.read_text(encoding="utf-8").splitlines()
        points = [
            (int(number), how, what) for number, how, what in (x.split(" ", 2) for x in lines)
        ]
        requests = self._served.count if self._served else 0
        return points + [
            (number, how, "request")
            for number in range(1, requests + 1)
            for how in (UNSERVED, UNANSWERED)
        ]

    def _told(self) -> str:
        return self._output.read_text(encoding="utf-8").strip()[-300:]

    def _run(self, kill: Kill, *, fresh: bool = False) -> int:
        """Run the command, killed where ``kill`` says; its wait status."""
        if fresh:
            if self._place.exists():
                shutil.rmtree(self._place)
            shutil.copytree(self._scenario.start, self._place, symlinks=True)
            (self._place / "tmp").mkdir(exist_ok=True)
        if self._served:
            self._served.begin(kill, fresh=fresh)
        started = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(started[0], 1)
            os._exit(self._do(kill))
        if self._served:
            self._served.watch(child)
        os.write(started[1], b".")
        status = os.waitpid(child, 0)[1]
        for end in started:
            os.close(end)
        return status

    def _do(self, kill: Kill) -> int:
        """Run the command in this process, which is a fork; return its exit code."""
        os.chdir(self._place)
        os.environ.update({**self._scenario.environment, "TMPDIR": str(self._place / "tmp")})
        tempfile.tempdir = None
        output, hook, code = io.StringIO(), _Hook(kill), 0
        with redirect_stdout(output), redirect_stderr(output):
            try:
                hook.begin()
                if callable(self._scenario.command):
                    self._scenario.command()
                else:
                    main(self._scenario.command)
            except SystemExit as ended:
                code = int(ended.code or 0)
            except BaseException:
                traceback.print_exc()
                code = 1
            finally:
                hook.end()
        self._output.write_text(output.getvalue(), encoding="utf-8")
        if kill == NO_KILL:
            self._counted.write_text(hook.log.getvalue(), encoding="utf-8")
        return code

    def _differences(self, expected: Tree) -> Iterable[str]:
        found = tree_of(self._place)
        for name in sorted(found.keys() | expected.keys()):
            if any(fnmatch(name, pattern) for pattern in self._scenario.kept):
                continue
            if name not in expected:
                yield f"{name} is left over"
            elif name not in found:
                yield f"{name} is missing"
            elif found[name][0] != expected[name][0]:
                yield f"{name} has mode {found[name][0]:o}, not {expected[name][0]:o}"
            elif found[name] != expected[name] and not any(
                fnmatch(name, pattern) for pattern in self._scenario.vary
            ):
                yield f"{name} has other bytes"


def tree_of(folder: Path) -> Tree:
    """Every file, folder and link below ``folder``: its mode, and its bytes or where it leads."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for path in folder.rglob("*"):
        mode = path.lstat().st_mode
        content: bytes | str | None = None
        if stat.S_ISLNK(mode):
            content = str(path.readlink())
        elif stat.S_ISREG(mode):
            content = path.read_bytes()
        found[path.relative_to(folder).as_posix()] = mode, content
    return found


class _Hook:
    """Counts this process's writes, and kills it at one."""

    def __init__(self, kill: Kill) -> None:
        self.log = io.StringIO()
        self._kill = kill
        self._count, self._idle = 0, True

    def begin(self) -> None:
        sys.dont_write_bytecode = True
        sys.addaudithook(self._audit)
        self._idle = False

    def end(self) -> None:
        self._idle = True
        _limit_files(resource.RLIM_INFINITY)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._idle:
            return
        opened = event == "open"
        if opened:
            path, _, flags = arguments
            if not isinstance(path, str | bytes) or not flags & _WRITING or _elsewhere(path):
                return
        elif event == "ctypes.dlsym":
            path = "exchange"
            if arguments[1] != "renameat2":
                return
        elif event in _CALLS:
            path = arguments[0]
        else:
            return
        self._idle = True
        self._count += 1
        hows = (BEFORE, EMPTY, PARTIAL) if opened else (BEFORE,)
        for how in hows:
            self.log.write(f"{self._count} {how} {event} {_shown(path)}\n")
            if self._kill == (self._count, how):
                self._die(how, path, arguments)
        self._idle = False

    def _die(self, how: str, path: Any, arguments: tuple[Any, ...]) -> None:
        if how == PARTIAL:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            _limit_files(_PARTIAL_BYTES)
            return
        if how == EMPTY:
            os.open(path, arguments[2], 0o666)
        os.kill(os.getpid(), signal.SIGKILL)


def _limit_files(size: int) -> None:
    """The system ends who lets a file grow beyond ``size`` bytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def _shown(path: Any) -> str:
    return Path(os.fsdecode(path)).name if isinstance(path, str | bytes | os.PathLike) else "?"


def _elsewhere(path: str | bytes) -> bool:
    return os.fsdecode(path).startswith(("/dev/", "/proc/"))


class _Served:
    """Counts the requests that may change a server, and kills who makes one."""

    def __init__(self, server: HubServer) -> None:
        self._server = server
        self._state = copy.deepcopy((server.lines, server.objects))
        self._child, self._kill = 0, NO_KILL
        self.count = 0
        server.on_change = self._change

    def begin(self, kill: Kill, *, fresh: bool) -> None:
        """Start to count; with ``fresh``, from the state of the beginning."""
        if fresh:
            self._server.lines, self._server.objects = copy.deepcopy(self._state)
        self._kill, self.count = kill, 0

    def watch(self, child: int) -> None:
        self._child = child

    def _change(self, how: str) -> None:
        """Called before (`UNSERVED`) and after (`UNANSWERED`) each request is served."""
        self.count += how == UNSERVED
        if self._kill == (self.count, how):
            self._kill = NO_KILL
            os.kill(self._child, signal.SIGKILL)
            raise ConnectionAbortedError


def _spread(points: list[Point], sample: int | None) -> list[Point]:
    if sample is None or sample >= len(points):
        return points
    return [points[i * (len(points) - 1) // max(1, sample - 1)] for i in range(sample)]
