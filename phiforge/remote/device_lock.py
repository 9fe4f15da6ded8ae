"""One job at a time on a device of this machine, whichever checkout it comes from."""

import getpass
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path

from phiforge.remote.agent import exclusive_lock, report_to_person


def device_lock(device: str, folder: Path | None = None) -> AbstractContextManager[None]:
    """Hold ``device`` (``NPU``, ``GPU``, …) until the block ends; wait, saying so, if it is in use.

    The system frees the lock when this process ends, however. Two jobs at once would slow each
    other's measurements, and each would pass for the other's activity.

    Args:
        folder: where the lock's file is; by default the system's folder for temporary files.
    """
    name = f"phiforge-{getpass.getuser()}-{device}.lock"
    path = (folder or Path(tempfile.gettempdir())) / name
    waiting = f"another job uses the {device} of this machine; waiting for it"
    return exclusive_lock(path, waiting, report_to_person)
