"""Make ``.directml``, in which Microsoft's DirectML runs on a CPU (`make directml`).

    python3.11 envs/directml/build.py .directml

``tree/`` is unpacked from the Debian packages of ``packages.lock``: wine, Mesa's software Vulkan
and libvkd3d, which turns Direct3D 12 into Vulkan; no package's own script runs and nothing outside
the folder changes. In ``tree/opt/directml`` are Microsoft's DLLs from the wheels that
``envs/directml.lock`` pins (``earlier/``: of the releases before the one that users install), our
two small DLLs and the runner, and wine's own folder. What was fetched stays in ``packages/`` and
``wheels/``. The marker ``.installed`` is written last and lists what the tree was made from, as
sha256sum does; without it, or where a file is another one now, the folder counts as missing
(phiforge/environment.py). Run again after any failure.

The Debian mirror is that of the machine's own apt, or the one that DEBIAN_MIRROR names.
Python's standard library only: this runs before anything is installed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from install import InstallError, download_windows_wheels, run, run_main

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "packages.lock"
WHEELS = HERE.parent / "directml.lock"
MARKER = ".installed"
SOURCES = ("build.py", "d3d12.c", "d3d12.spec", "dxcore.c", "enter.sh", "packages.lock", "run.sh",
           "runner.cpp")  # fmt: skip
APT_HELPER = "/usr/lib/apt/apt-helper"

_BUILD = """
set -eu
cd /opt/directml
cp /source/run.sh .
x86_64-w64-mingw32-gcc-posix -O2 -Wall -Wextra -shared -o dxcore.dll /source/dxcore.c
# wine loads an ELF library under the name of a DLL. Its headers call every function imported.
winegcc-stable -m64 -O2 -Wall -Wextra -Wno-attributes -shared -o d3d12.dll.so \
    /source/d3d12.c /source/d3d12.spec -I/usr/include/vkd3d -lvkd3d -lvulkan
mv d3d12.dll.so d3d12.dll
x86_64-w64-mingw32-g++-posix -std=c++17 -O2 -Wall -Wextra -static -o runner.exe \
    /source/runner.cpp -lversion
for folder in */; do cp dxcore.dll d3d12.dll runner.exe "$folder"; done

# libwine's postinst does this.
zlib=/usr/lib/x86_64-linux-gnu/wine/x86_64-windows/zlib1.dll
cp /usr/x86_64-w64-mingw32/lib/zlib1.dll "$zlib"
/usr/lib/wine/winebuild --builtin "$zlib"

export WINEPREFIX=/opt/directml/prefix WINEDEBUG=-all WINEDLLOVERRIDES='mscoree,mshtml='
# The first says that it did not start a 32-bit program; this wine has none.
/usr/lib/wine/wine64 wineboot --init 2> /dev/null || true
# wine's DXGI on Vulkan, not on OpenGL.
/usr/lib/wine/wine64 reg add 'HKCU\\Software\\Wine\\Direct3D' /v renderer /t REG_SZ \
    /d vulkan /f > /dev/null
/usr/lib/wine/wineserver64 -w
"""

# GenAI is asked to open a build that is not there: every library was loaded when it says so.
_TRY = """
mkdir /tmp/jobs
echo open > /tmp/jobs/1.job
bash /opt/directml/run.sh "$1" Z:/nothing Z:/tmp/jobs
cat /tmp/jobs/1.answer
"""
# Folder below /opt/directml to the wheels whose DLLs it holds: "" is what users install today.
_ROUTES = {
    "": ("onnxruntime-genai-winml",),
    "earlier": ("onnxruntime-genai-directml", "onnxruntime-directml"),
}


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    refuse_what_cannot_work()
    for part in ("packages", "wheels", "run"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / MARKER).unlink(missing_ok=True)
    shutil.copy(HERE / "enter.sh", folder)
    refuse_without_namespaces(folder)
    fetch_packages(folder / "packages")
    fetch_wheels(folder / "wheels")
    shutil.rmtree(folder / "tree", ignore_errors=True)
    unpack(folder / "packages", folder / "tree")
    for route, wheels in _ROUTES.items():
        for wheel in wheels:
            take_libraries(folder / "wheels", wheel, folder / "tree/opt/directml" / route)
    enter = ["sh", str(folder / "enter.sh"), str(folder)]
    run(
        [*enter, "--change", "--read", f"{HERE}:/source", "--", "sh", "-c", _BUILD],
        "the libraries and the runner were not built; read above",
    )
    for route, wheels in _ROUTES.items():
        command = [*enter, "--", "sh", "-c", _TRY, "try", f"{route}/runner.exe".lstrip("/")]
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if "Z:/nothing" not in tried.stdout:
            print(tried.stdout + tried.stderr, file=sys.stderr)
            raise InstallError(f"the runner does not load {wheels[0]} under wine; read above")
    (folder / MARKER).write_text(made_of(), encoding="utf-8")


def refuse_what_cannot_work() -> None:
    """Linux on x86-64 with apt, dpkg and util-linux.

    Raises:
        InstallError: naming what is missing.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise InstallError(
            "DirectML runs here on Linux x86-64 only. Remedy: on Windows use the row dml "
            "(docs/devices.md)"
        )
    for program, package in {
        APT_HELPER: "apt",
        "dpkg-deb": "dpkg",
        "unshare": "util-linux",
        "setpriv": "util-linux",
    }.items():
        if not shutil.which(program):
            raise InstallError(
                f"{program} is missing, and the packages are Debian's. "
                f"Remedy: run this on Debian or Ubuntu with {package} installed"
            )


def refuse_without_namespaces(folder: Path) -> None:
    """The tree is a root file system of its own: root, or user namespaces, must allow that."""
    (folder / "tree").mkdir(exist_ok=True)
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


def mirror() -> str:
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
        "this machine's apt names no Debian mirror. Remedy: make directml DEBIAN_MIRROR=http://…"
    )


def locked_packages() -> list[tuple[str, str, str]]:
    """Package with its version, SHA-256 and path on a mirror, as the lock has them."""
    lines = PACKAGES.read_text(encoding="utf-8").splitlines()
    entries = [line.split() for line in lines if not line.startswith("#")]
    return [(f"{name} {version}", sha256, path) for name, version, sha256, path in entries]


def fetch_packages(into: Path) -> None:
    """Fetch what is missing of the locked packages, by apt's own downloader.

    Raises:
        InstallError: a package is gone from the mirror, or is not the locked one.
    """
    missing = [
        (what, sha256, path)
        for what, sha256, path in locked_packages()
        if not is_file_of(into / Path(path).name, sha256)
    ]
    if not missing:
        return
    site = mirror()
    files = [
        word
        for _, sha256, path in missing
        for word in (f"{site}/{path}", str(into / Path(path).name), f"SHA256:{sha256}")
    ]
    options = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
    subprocess.run(
        [APT_HELPER, *options, "download-file", *files],
        stdout=subprocess.DEVNULL,
        check=False,
    )
    gone = [w for w, sha256, path in missing if not is_file_of(into / Path(path).name, sha256)]
    if gone:
        raise InstallError(
            f"{len(gone)} locked packages were not fetched from {site}, the first is {gone[0]}. "
            "Remedy: read above; where the mirror has only newer ones, make directml-lock"
        )


def is_file_of(path: Path, sha256: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sha256


def fetch_wheels(into: Path) -> None:
    """Fetch the locked Windows wheels with pip, as it is configured."""
    with tempfile.TemporaryDirectory(prefix="phiforge-directml-") as scratch:
        run([sys.executable, "-m", "venv", scratch], "no environment for pip can be made")
        failure = f"pip did not fetch the wheels of envs/{WHEELS.name}; read above, then run again"
        download_windows_wheels(f"{scratch}/bin/python", WHEELS, into, failure)


def unpack(packages: Path, tree: Path) -> None:
    """Unpack the locked packages, base-files first: it links /bin and /lib into /usr."""
    tree.mkdir()
    files = [packages / Path(path).name for _, _, path in locked_packages()]
    for file in sorted(files, key=lambda file: not file.name.startswith("base-files_")):
        run(["dpkg-deb", "--extract", str(file), str(tree)], f"{file} was not unpacked")


def take_libraries(wheels: Path, name: str, into: Path) -> None:
    """Unpack the DLLs of the wheel ``name``, in the version that the lock names."""
    into.mkdir(parents=True, exist_ok=True)
    [version] = re.findall(rf"^{name}==(\S+)", WHEELS.read_text("utf-8"), flags=re.MULTILINE)
    [wheel] = wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".dll"):
                (into / Path(name).name).write_bytes(archive.read(name))


def made_of() -> str:
    """SHA-256 and path below the project of each file that the tree is made from."""
    files = (*(HERE / name for name in SOURCES), WHEELS)
    project = HERE.parents[1]
    return "".join(
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(project)}\n"
        for file in files
    )


if __name__ == "__main__":
    run_main(main)
