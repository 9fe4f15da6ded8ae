"""Lock a file among processes (flock(2)); the system frees the lock when its holder ends."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import gethostname

from phiforge.errors import PhiforgeError


@contextmanager
def file_lock(
    path: Path, *, shared: bool = False, busy: Callable[[str], PhiforgeError] | None = None
) -> Iterator[None]:
    """Hold ``path``, which is made if it is not there and left when the block ends.

    Args:
        shared: several processes may hold it so at once, and none exclusively meanwhile.
        busy: makes the error that is raised where another process holds it, from that process's
            number and host; None: wait.

    Raises:
        PhiforgeError: of ``busy``.
    """
    import fcntl  # not on Windows, where validators import this module and lock nothing

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as stream:
        mode = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(stream, mode if busy is None else mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if busy is None:
                raise
            stream.seek(0)
            raise busy(stream.read().strip() or "unknown") from None
        if not shared:
            stream.truncate(0)
            stream.write(f"{os.getpid()} on {gethostname()}")
            stream.flush()
        yield
