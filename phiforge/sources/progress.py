"""How far a long transfer is: a bar in a terminal, a line every few seconds in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)

_LINE_EVERY_SECONDS = 5.0


class Meter:
    """Shows the progress of several files as one transfer of ``total`` bytes."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = total
        self._done: dict[str, int] = {}
        self._line_at = time.monotonic()
        self._line_bytes: int | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=Console(stderr=True),
            )
            self._task = self._bar.add_task(self._label, total=self._total)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def at(self, name: str, done: int) -> None:
        """Say that ``done`` bytes of the file ``name`` are here."""
        self._done[name] = done
        have = sum(self._done.values())
        if self._bar:
            self._bar.update(self._task, completed=have, description=f"{self._label} {name}")
            return
        if self._line_bytes is None:
            self._line_bytes = have  # what an earlier run fetched says nothing about the speed
        elapsed = time.monotonic() - self._line_at
        if elapsed < _LINE_EVERY_SECONDS:
            return
        speed = max(0, have - self._line_bytes) / elapsed / 1e6
        share = 100 * have / max(1, self._total)
        print(
            f"{self._label}: {name}, {share:.0f} % of {self._total / 1e9:.2f} GB, {speed:.1f} MB/s",
            file=sys.stderr,
            flush=True,
        )
        self._line_at += elapsed
        self._line_bytes = have
