"""Errors for the person who must act: one line, a remedy, an exit code that is not 0."""

import errno
import gc
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

_OBJECTS_BETWEEN_COLLECTIONS = 100_000


class PhiforgeError(Exception):
    """What is wrong, where, expected against found, and what to do about it.

    ``str(error)`` is one line. Subclasses name the noun that failed; a traceback is never
    shown for one of these.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: object = None,
        found: object = None,
        remedy: str | None = None,
    ) -> None:
        parts = [f"{where}: {what}" if where is not None else what]
        if expected is not None or found is not None:
            parts.append(f"expected {expected}, found {found}")
        line = "; ".join(parts)
        if remedy:
            line += f". Remedy: {remedy}"
        super().__init__(printable(" ".join(line.split())))


def printable(text: str, *, keep: str = "") -> str:
    """Replace what a terminal obeys instead of showing: control characters but those in ``keep``.

    >>> printable("\x1b[2Jwhite\tspace", keep="\t")
    '\ufffd[2Jwhite\tspace'
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else "\ufffd" for char in text)


class Terminated(BaseException):
    """The process was asked to end; what it holds is let go on the way."""


def _terminate(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a scheduler asks more than once
    raise Terminated


def run_command(main: Callable[[], None]) -> None:
    """Run a command's ``main``; print a `PhiforgeError` as one line and exit with 1."""
    # Importing torch and transformers makes a million objects that stay; by its defaults Python
    # walks through all of them again and again, a fifth of the import's time.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS, 20, 20)
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminate) if is_main else None
    try:
        main()
    except PhiforgeError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("error: interrupted; nothing unfinished was left in place", file=sys.stderr)
        raise SystemExit(130) from None
    except Terminated:
        print(
            "error: ended from outside (SIGTERM), by a scheduler's time limit perhaps; nothing"
            " unfinished was left in place. Remedy: run again",
            file=sys.stderr,
        )
        raise SystemExit(143) from None
    except OSError as error:
        # A full disk or a missing permission is for the person who runs the agent, not for us.
        line = PhiforgeError(
            error.strerror or str(error),
            where=error.filename,
            remedy=_REMEDIES.get(error.errno or 0, "repair that, then run again"),
        )
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(1) from None
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


_FULL = "free space there, then run again; what is complete is kept"
_FORBIDDEN = "let the account that runs this read and write there"
_REMEDIES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _FORBIDDEN,
    errno.EPERM: _FORBIDDEN,
    errno.EROFS: "mount that file system writable, or work on another one",
    errno.ENOENT: "correct the path",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a file stands where a folder belongs: move it away",
    errno.EEXIST: "a file stands where a folder belongs: move it away",
}
