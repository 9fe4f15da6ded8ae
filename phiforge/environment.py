"""Another locked environment of this checkout, for what does not fit into the main one.

``.venv-<name>`` is installed by ``make <name>`` from ``envs/<name>.lock``; its marker
``.installed`` is written last and holds the lock's SHA-256.
"""

import os
from pathlib import Path

from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError

MARKER = ".installed"


class EnvironmentMissing(PhiforgeError):
    """A locked environment is not installed here, or not from the lock as it is now."""


def interpreter(name: str) -> Path:
    """The Python of the environment ``name``.

    Raises:
        EnvironmentMissing: with the command that installs it.
    """
    folder = ROOT / f".venv-{name}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    marker = folder / MARKER
    if not (marker.is_file() and python.is_file()):
        raise EnvironmentMissing(
            "this environment is not installed", where=folder, remedy=f"make {name}"
        )
    locked = sha256_file(ROOT / "envs" / f"{name}.lock")
    installed = marker.read_text(encoding="utf-8").strip()
    if installed != locked:
        raise EnvironmentMissing(
            "this environment was installed from another lock",
            where=folder,
            expected=locked[:12],
            found=installed[:12] or "nothing",
            remedy=f"make {name}",
        )
    return python
