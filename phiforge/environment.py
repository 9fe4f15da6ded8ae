"""Another locked environment of this checkout, for what does not fit into the main one.

``.venv-<name>`` is installed by ``make <name>`` from ``envs/<name>.lock``; its marker
``.installed`` is written last and holds the lock's SHA-256.
"""

import hashlib
import os
from pathlib import Path

from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError

MARKER = ".installed"
_DIRECTML = ("build.py", "d3d12.c", "d3d12.spec", "dxcore.c", "enter.sh", "packages.lock", "run.sh",
             "runner.cpp")  # fmt: skip


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


def directml() -> Path:
    """The folder of `make directml`.

    Raises:
        EnvironmentMissing: it is not made, or not of the locks and sources as they are now.
    """
    folder, envs = ROOT / ".directml", ROOT / "envs"
    marker, made_of = folder / MARKER, hashlib.sha256()
    if not marker.is_file():
        raise EnvironmentMissing("it is not made", where=folder, remedy="make directml")
    for file in (*(envs / "directml" / name for name in _DIRECTML), envs / "directml.lock"):
        made_of.update(file.read_bytes())  # as envs/directml/build.py does
    made, expected = marker.read_text(encoding="utf-8").strip(), made_of.hexdigest()
    if made != expected:
        raise EnvironmentMissing(
            "it was made from other locks or sources",
            where=folder,
            expected=expected[:12],
            found=made[:12] or "nothing",
            remedy="make directml",
        )
    return folder
