"""Try the cache before a rule's command, and share what the command made: a job's side of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from phiforge.artifact.record import RecordError, read_record, write_bytes, write_record
from phiforge.artifact.tree import fresh_tree
from phiforge.cache.work import Work
from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError, printable
from validators.predictions import alone

PAUSED = Path("artifacts/jobs")
PAUSE_S = 600
_GRACE_S = 5.0


class _NotTakenError(PhiforgeError):
    """Nothing was taken, and the folder stays as it is."""


class CachedCommand:
    """A command whose result may be in the cache."""

    def __init__(self, work: Work, argv: Sequence[str], configured: Mapping[str, Any]) -> None:
        self._work, self._argv, self._configured = work, list(argv), configured
        self._key: str | None = None
        self._alarm = self._refused = False

    def take(self) -> bool:
        """Put in place what others have made; whether nothing is left to do for the command."""
        records: list[list[str]] = []
        try:
            if self._work.tree is None:
                records = self._taken(None)
            else:
                together = nullcontext() if self._work.is_all else alone(self._work.tree)
                with together, fresh_tree(self._work.tree) as scratch:
                    records = self._taken(scratch)
        except _NotTakenError:
            return False
        for path, text in records:
            write_bytes(Path(path), text.encode())
        if not self._work.is_all:
            self._key = None  # who takes them does not share them
        return self._work.is_all

    def put(self) -> None:
        """Share what the command has made, or hold it against two builders that disagree."""
        write = bool(self._configured.get("write"))
        if self._key is not None and (write or self._alarm):
            self._ask("put", key=self._key, write=write, again=self._refused)

    def _taken(self, scratch: Path | None) -> list[list[str]]:
        answer = self._ask("take", scratch=None if scratch is None else str(scratch.absolute()))
        if "records" not in answer:
            raise _NotTakenError("nothing was taken")
        return list(answer["records"])

    def _ask(self, what: str, **request: Any) -> Mapping[str, Any]:
        """Ask the process that talks to the storage, unless it was out of order a moment ago."""
        pause = PAUSED / f"cache-{what}-paused.json"
        if why := _paused(pause):
            _tell(f"not asked, it was out of order: {why}")
            return {}
        limit = int(self._configured.get("time_limit_s", 300))
        started = time.monotonic()
        asked = {"do": what, "argv": self._argv, "cache": self._configured, **request}
        answer = _answer({**asked, "time_limit_s": limit}, limit)
        self._key = answer.get("key")
        for note in answer["notes"]:
            _tell(note)
            self._alarm |= note.startswith("alarm: ")
            self._refused |= note.startswith("not taken: ")
        if answer.get("broken"):
            _tell(f"goes on without it, after {time.monotonic() - started:.0f} s")
            why = answer["notes"][-1].removeprefix("out of order: ")
            record = {"until": time.time() + PAUSE_S, "why": why}
            with suppress(OSError):
                write_record(pause, record)
        return answer


def _answer(request: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """Return what the process answers; one that ends otherwise, or late, is the storage's fault."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    child = subprocess.Popen(
        [sys.executable, "-m", "phiforge.cache.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    why = f"no answer in {limit} s"
    with suppress(subprocess.TimeoutExpired, ValueError):
        said, _ = child.communicate(json.dumps(request), timeout=limit + _GRACE_S)
        why = f"ended with exit code {child.returncode}"
        answer: dict[str, Any] = json.loads(said)
        return answer
    child.kill()  # one that waits for a dead file system ends when that answers; nobody waits
    return {"notes": [f"out of order: {why}"], "broken": True}


def _paused(pause: Path) -> str | None:
    """Why the storage is left alone for now; None: it is not."""
    try:
        record = read_record(pause)
        return str(record["why"]) if time.time() < record["until"] else None
    except (RecordError, LookupError, TypeError):
        return None


def _tell(note: str) -> None:
    """Say it in the job's log, on a line that `phiforge status` finds."""
    alarm = note.startswith("alarm: ")
    line = f"alarm: cache: {note.removeprefix('alarm: ')}" if alarm else f"cache: {note}"
    print(printable(line), flush=True)
