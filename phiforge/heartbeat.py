"""Say once a minute that long work goes on: a log without a line looks like a job that hangs."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


@contextmanager
def heartbeat(work: str, seconds: float = 60.0) -> Iterator[None]:
    """Print a line every ``seconds`` until the block ends: the time so far, and the memory held.

    A rule's output goes to its log; whoever sits at the terminal sees the line too.
    """
    ended = threading.Event()

    def beat() -> None:
        started = time.monotonic()
        while not ended.wait(seconds):
            minutes = (time.monotonic() - started) / 60
            held = f"{_resident_bytes() / 1e9:.1f} GB resident"
            line = f"{work}: at work for {minutes:.0f} min, {held}"
            print(line, flush=True)
            _tell_terminal(line)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell_terminal(line: str) -> None:
    """Print ``line`` on the terminal that this process is in the foreground of, if there is one."""
    if sys.stdout.isatty():
        return
    with suppress(OSError), Path("/dev/tty").open("w", encoding="utf-8") as terminal:
        if os.tcgetpgrp(terminal.fileno()) == os.getpgrp():
            terminal.write(f"{line}\n")


def _resident_bytes() -> int:
    """Return the resident memory of this process and of those that it has started."""
    total = 0
    with suppress(psutil.Error):
        this = psutil.Process()
        for process in (this, *this.children(recursive=True)):
            with suppress(psutil.Error):  # it has just ended
                total += process.memory_info().rss
    return total
