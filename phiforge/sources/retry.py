"""Patience with a server: exponential waits, its own wishes honoured, and an end to it."""

import math
import os
import sys
import time
from dataclasses import dataclass

from phiforge.sources.request import SourceError

FIRST_WAIT = "PHIFORGE_RETRY_SECONDS"
"""Environment variable: seconds before the first repetition (default 1; tests set less)."""

_REPETITIONS = 5
_LONGEST_WAIT = 60.0
_LONGEST_WISH = 900.0


class TransientError(Exception):
    """Something that may be gone on the next attempt.

    Attributes:
        wish: seconds that the server asked to wait, or None.
        start_over: the bytes so far are of no use to the next attempt.
    """

    def __init__(self, what: str, *, wish: float | None = None, start_over: bool = False) -> None:
        super().__init__(what)
        self.wish = wish
        self.start_over = start_over


@dataclass
class Patience:
    """Counts what goes wrong with one request and waits between its repetitions.

    Attributes:
        subject: what is asked for, named in messages.
        failures: how often it went wrong since the last progress.
    """

    subject: str
    failures: int = 0

    def wait(self, trouble: TransientError) -> None:
        """Sleep before the next attempt.

        Raises:
            SourceError: it went wrong too often, or the server asks for too long a wait.
        """
        self.failures += 1
        if self.failures > _REPETITIONS:
            raise SourceError(
                f"{trouble}; gave up after {self.failures} attempts",
                where=self.subject,
                remedy="run again later: what is complete is kept",
            )
        seconds = min(_LONGEST_WAIT, _first_wait() * 2 ** (self.failures - 1))
        if trouble.wish is not None:
            if trouble.wish > _LONGEST_WISH:
                raise SourceError(
                    f"{trouble}, and the server asks to wait {trouble.wish:.0f} s",
                    where=self.subject,
                    remedy="run again after that time",
                )
            seconds = max(seconds, trouble.wish)
        print(
            f"{self.subject}: {trouble}; again in {seconds:.3g} s "
            f"({self.failures} of {_REPETITIONS})",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(seconds)

    def progressed(self) -> None:
        """Forget earlier failures: there is more now than there ever was."""
        self.failures = 0


def _first_wait() -> float:
    text = os.environ.get(FIRST_WAIT, "1")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise SourceError(
            "not a number of seconds", where=FIRST_WAIT, expected="0 to 60", found=repr(text)
        )
    return seconds
