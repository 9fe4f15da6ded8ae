"""Another locked environment of this checkout, for what does not fit into the main one.

``.venv-<name>`` is installed by ``make <name>`` from ``envs/<name>.lock``; its marker
``.installed`` is written last and holds the lock's SHA-256.
"""

import os
from pathlib import Path

from phiforge.artifact.checksums import ChecksumsError, parse_checksums
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


def debian_tree(name: str) -> Path:
    """The folder of `make NAME` (directml, intel-gpu), whose marker lists what it was made from.

    Raises:
        EnvironmentMissing: it is not made, or a lock or source is another one now.
    """
    folder, remedy = ROOT / f".{name}", f"make {name}"
    marker = folder / MARKER
    if not marker.is_file():
        raise EnvironmentMissing("it is not made", where=folder, remedy=remedy)
    try:
        made_of = parse_checksums(marker.read_text(encoding="utf-8"), marker)
        changed = [name for name in made_of if sha256_file(ROOT / name) != made_of[name]]
    except (ChecksumsError, OSError) as error:
        made_of, changed = {}, [str(error)]
    if changed or not made_of:
        raise EnvironmentMissing(
            f"it was made from other locks or sources ({', '.join(changed) or 'none'})",
            where=folder,
            remedy=remedy,
        )
    return folder


def installed_tree(name: str) -> dict[str, str] | None:
    """Return the tree that is made, as jobs name it; None: none, or one of other sources."""
    try:
        return {"installed_sha256": sha256_file(debian_tree(name) / MARKER)}
    except EnvironmentMissing:
        return None
