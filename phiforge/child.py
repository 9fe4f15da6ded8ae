"""What a child process of ours does first: end with its parent, open no pickle or connection."""

import ctypes
import os
import signal
import sys
from typing import Any

from phiforge.errors import PhiforgeError

_PR_SET_PDEATHSIG = 1
_CLONE_NEWNET, _CLONE_NEWUSER = 0x40000000, 0x10000000


class PickleRefused(PhiforgeError):
    """Something asked Python to unpickle an object, which can execute any code."""


def die_with_parent() -> None:
    """A killed job must not leave a process behind that holds gigabytes (Linux: prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def without_network() -> None:
    """Leave this process no network, where the kernel lets it (Linux: unshare(2)).

    Root may, and anyone where user namespaces are allowed; inside a container often nobody may.
    """
    if sys.platform == "linux":
        user = 0 if os.geteuid() == 0 else _CLONE_NEWUSER
        ctypes.CDLL(None).unshare(_CLONE_NEWNET | user)


def refuse_pickles() -> None:
    """From now on, unpickling anything that names a class or a function raises `PickleRefused`.

    Python audits every such name before it is looked up
    (https://docs.python.org/3.11/library/audit_events.html, ``pickle.find_class``), whichever
    library unpickles. It cannot be undone in this process.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "pickle.find_class":
        raise PickleRefused(
            f"a pickle that names {arguments[0]}.{arguments[1]} was about to be loaded",
            remedy="none: artifacts are safetensors; report which file it was",
        )
