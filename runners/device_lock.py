"""One job at a time on a device of this machine, whichever checkout it comes from."""

import contextlib
import getpass
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from runners.remote import locked

_POLL_S = 0.3


@contextlib.contextmanager
def device_lock(device: str, folder: Path | None = None) -> Iterator[None]:
    """Hold ``device`` (``NPU``, ``GPU``, …) until the block ends; wait, saying so, if it is in use.

    The system frees the lock when this process ends, however. Two jobs at once would slow each
    other's measures, and each would pass for the other's activity.

    Args:
        folder: where the lock's file is; by default the system's folder for temporary files.
    """
    name = f"phiforge-{getpass.getuser()}-{device}.lock"
    path = (folder or Path(tempfile.gettempdir())) / name
    with path.open("a+b") as stream:
        if not locked(stream):
            print(f"another job uses the {device} of this machine; waiting for it", flush=True)
            while not locked(stream):
                time.sleep(_POLL_S)
        yield
