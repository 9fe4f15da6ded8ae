"""What `make directml` and `make intel-gpu` share: a tree of locked Debian packages to run in.

A lock has a line for each package: its name, version, SHA-256 and path on any Debian mirror. The
tree is unpacked from them; no package's own script runs, and nothing outside the folder changes.
``enter.sh`` runs a command in it. The mirror is that of the machine's own apt, or the one that
DEBIAN_MIRROR names.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from install import InstallError, run

ENVS = Path(__file__).resolve().parent
ENTER = ENVS / "enter.sh"
MARKER = ".installed"
SHARED = (ENVS / "debian.py", ENTER, ENVS / "install.py")
_APT_HELPER = "/usr/lib/apt/apt-helper"


def prepare(folder: Path, name: str, elsewhere: str, *parts: str) -> None:
    """Make ``folder`` with its parts, without its marker.

    Args:
        name: what is made, for messages.
        elsewhere: what to do where it cannot be made.

    Raises:
        InstallError: it cannot be made on this machine.
    """
    _refuse_what_cannot_work(name, elsewhere)
    for part in ("packages", "run", *parts):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    shutil.copy(ENTER, folder)
    _refuse_without_namespaces(folder)


def _refuse_what_cannot_work(name: str, elsewhere: str) -> None:
    """Linux on x86-64 with apt, dpkg and util-linux."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise InstallError(f"{name} runs here on Linux x86-64 only. Remedy: {elsewhere}")
    for program, package in {
        _APT_HELPER: "apt",
        "dpkg-deb": "dpkg",
        "unshare": "util-linux",
        "setpriv": "util-linux",
    }.items():
        if not shutil.which(program):
            raise InstallError(
                f"{program} is missing, and the packages are Debian's. "
                f"Remedy: run this on Debian or Ubuntu with {package} installed"
            )


def _refuse_without_namespaces(folder: Path) -> None:
    """The tree is a root file system of its own: root, or user namespaces, must allow that."""
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    namespaces = [*user, "--mount", "--pid", "--net", "--ipc", "--uts", "--fork"]
    done = subprocess.run(
        ["unshare", *namespaces, "mount", "-t", "tmpfs", "none", str(folder / "run")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise InstallError(
            f"this user may not make a root file system of its own ({done.stderr.strip()}). "
            "Remedy: run it as root, or where user namespaces are allowed "
            "(docker: --privileged)"
        )


def make_tree(folder: Path, lock: Path, target: str) -> None:
    """Fetch the packages of ``lock`` and unpack them into a new tree.

    Args:
        target: what `make` is asked for; ``target``-lock renews the lock.

    Raises:
        InstallError: a package is gone from the mirror, or is not the locked one.
    """
    packages, tree = folder / "packages", folder / "tree"
    _fetch(lock, packages, target)
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    files = [packages / Path(path).name for _, _, path in _locked(lock) if path.endswith(".deb")]
    # base-files first: since Debian 13 it links /bin and /lib into /usr.
    for file in sorted(files, key=lambda file: not file.name.startswith("base-files_")):
        run(["dpkg-deb", "--extract", str(file), str(tree)], f"{file} was not unpacked")
    for part in ("dev", "proc", "root", "sys", "tmp"):
        (tree / part).mkdir(exist_ok=True)


def mirror(target: str) -> str:
    """Address of a Debian mirror.

    Raises:
        InstallError: neither DEBIAN_MIRROR nor this machine's apt names one.
    """
    if named := os.environ.get("DEBIAN_MIRROR"):
        return named.rstrip("/")
    etc = Path("/etc/apt")
    for file in (etc / "sources.list", *sorted(etc.glob("sources.list.d/*.[ls]*"))):
        lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
        text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        if found := re.search(r"https?://\S+/debian/?(?=\s|$)", text):
            return found[0].rstrip("/")
    raise InstallError(
        f"this machine's apt names no Debian mirror. Remedy: make {target} DEBIAN_MIRROR=http://…"
    )


def _locked(lock: Path) -> list[tuple[str, str, str]]:
    """Package with its version, SHA-256 and path on a mirror, as the lock has them."""
    lines = lock.read_text(encoding="utf-8").splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    return [(f"{name} {version}", sha256, path) for name, version, sha256, path in entries]


def _fetch(lock: Path, into: Path, target: str) -> None:
    """Fetch what is missing of the locked packages, by apt's own downloader."""
    missing = [
        (what, sha256, path)
        for what, sha256, path in _locked(lock)
        if not _is_file_of(into / Path(path).name, sha256)
    ]
    if not missing:
        return
    site = mirror(target)
    files = [
        word
        for _, sha256, path in missing
        for word in (f"{site}/{path}", str(into / Path(path).name), f"SHA256:{sha256}")
    ]
    options = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
    subprocess.run(
        [_APT_HELPER, *options, "download-file", *files],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    gone = [w for w, sha256, path in missing if not _is_file_of(into / Path(path).name, sha256)]
    if gone:
        raise InstallError(
            f"{len(gone)} locked packages were not fetched from {site}, the first is {gone[0]}. "
            f"Remedy: read above; where the mirror has only newer ones, make {target}-lock"
        )


def _is_file_of(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def enter(folder: Path) -> list[str]:
    """Begin a command that runs in the tree."""
    return ["sh", str(folder / ENTER.name), str(folder)]


def made_of(files: Iterable[Path]) -> str:
    """Return the marker's text: SHA-256 and path below the project of what a tree is made from."""
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(ENVS.parent)}\n"
        for file in (*files, *SHARED)
    )


def finish(folder: Path, files: Iterable[Path]) -> None:
    """Write the marker."""
    (folder / MARKER).write_text(made_of(files), encoding="utf-8")
