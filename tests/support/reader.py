"""A reader's machine: a checkout as `make` leaves it, a home of its own, and an environment."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from support.checkout import Checkout
from support.pages import Reader

PROGRAM = """#!/bin/sh
exec "{environment}/bin/python" -c 'import sys; sys.path.insert(0, "{checkout}")
from phiforge.cli import main; main()' "$@"
"""


def make_reader(built: Checkout, folder: Path, **environment: str) -> Reader:
    """Give someone a copy of a built checkout, installed as `make` installs it, and a new home."""
    checkout, home = folder / "phiforge", folder / "home"
    home.mkdir(parents=True)
    subprocess.run(["cp", "-a", built.folder, checkout], check=True)  # keeps times and hard links
    install(checkout / ".venv")
    path = f"{checkout}/.venv/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    fixed = {"PATH": path, "HOME": str(home), "LANG": "C.UTF-8", "TERM": "dumb", "COLUMNS": "80"}
    return Reader(checkout, home, {**fixed, "TMPDIR": str(folder), **environment})


def install(environment: Path) -> None:
    """Make an environment with this one's packages and commands, and its own checkout's code."""
    venv.create(environment, with_pip=False, symlinks=True)
    (site,) = environment.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib") + "\n")
    for program in Path(sys.executable).parent.iterdir():
        if not (environment / "bin" / program.name).exists() and program.name != "phiforge":
            (environment / "bin" / program.name).symlink_to(program)
    phiforge = environment / "bin/phiforge"
    phiforge.write_text(PROGRAM.format(environment=environment, checkout=environment.parent))
    phiforge.chmod(0o755)
    (environment / ".installed").touch()  # after the lock, so `make` has nothing to install
    assert shutil.which("snakemake", path=str(environment / "bin"))
