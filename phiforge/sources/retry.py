"""Retries with exponential backoff, for the Hub and for publishing."""

import os
import sys
import time
from collections.abc import Callable
from typing import TypeVar

from phiforge.sources.source import SourceError

_FIRST_WAIT = "PHIFORGE_RETRY_SECONDS"  # seconds before the first repetition; tests set less
REPETITIONS = 5
_LONGEST_WAIT = 60.0
_LONGEST_RETRY_AFTER = 900.0

Result = TypeVar("Result")


class TransientError(Exception):
    """A failure that the next attempt may not have.

    Attributes:
        retry_after: seconds that the server asked to wait.
        start_over: the bytes so far are of no use to the next attempt.
        remedy: what a person may do where no attempt helps.
        progressed: this attempt came further than all before it, so the count starts again.
    """

    def __init__(
        self, what: str, *, retry_after: float = 0.0, start_over: bool = False, remedy: str = ""
    ) -> None:
        super().__init__(what)
        self.remedy = remedy
        self.retry_after = retry_after
        self.start_over = start_over
        self.progressed = False


def retry(subject: str, attempt: Callable[[], Result], repetitions: int = REPETITIONS) -> Result:
    """Call ``attempt`` until it returns, and return its result.

    Args:
        subject: what is asked for, named in messages.

    Raises:
        SourceError: it failed too often, or the server asks for too long a wait.
    """
    try:
        first_wait = max(0.0, float(os.environ.get(_FIRST_WAIT, "1")))
    except ValueError:
        raise SourceError("not a number of seconds", where=_FIRST_WAIT) from None
    failures = 0
    while True:
        try:
            return attempt()
        except TransientError as error:
            failures = 1 if error.progressed else failures + 1
            if failures > repetitions:
                raise SourceError(
                    f"{error}; gave up after {failures} attempts",
                    where=subject,
                    remedy=f"{error.remedy or 'run again later'}: what is complete is kept",
                ) from None
            if error.retry_after > _LONGEST_RETRY_AFTER:
                raise SourceError(
                    f"{error}, and the server asks to wait {error.retry_after:.0f} s",
                    where=subject,
                    remedy="run again after that time",
                ) from None
            wait = max(min(_LONGEST_WAIT, first_wait * 2 ** (failures - 1)), error.retry_after)
            print(
                f"{subject}: {error}; again in {wait:.3g} s ({failures} of {repetitions})",
                file=sys.stderr,
                flush=True,
            )
            time.sleep(wait)
