"""Install ``.npu-compiler`` from its lock (`make npu-compiler`).

    python3.11 envs/npu_compiler/build.py .npu-compiler

The NPU compiler comes through pip in OpenVINO's Windows wheel, hash required
(``envs/npu-compiler.lock``), and runs under wine. Of the wheel only the DLLs that compile an IR are
taken. ``npu_compile.c`` is built with mingw-w64 and put beside them. The marker ``.installed`` is
written last; without it the compiler counts as missing. Run again after any failure.

Python's standard library only: this runs before anything is installed.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from install import InstallError, download_windows_wheels, run, run_main

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "npu-compiler.lock"
SOURCE = HERE / "npu_compile.c"
PROGRAM = "npu-compile.exe"
MARKER = ".installed"
# openvino_intel_cpu_plugin.dll stays out: nothing can then be compiled for the CPU instead.
LIBRARIES = (
    "openvino.dll",
    "openvino_c.dll",
    "openvino_intel_npu_compiler.dll",
    "openvino_intel_npu_compiler_loader.dll",
    "openvino_intel_npu_plugin.dll",
    "openvino_ir_frontend.dll",
    "tbb12.dll",
)
MINGW = "x86_64-w64-mingw32-gcc"
# Where distributions put wine's loader, its server and its own DLLs.
WINE = ("/usr/lib/wine/wine64", "/usr/bin/wine64", "/opt/wine-stable/bin/wine64", "/usr/bin/wine")
WINESERVER = (
    "/usr/lib/wine/wineserver64",
    "/usr/bin/wineserver",
    "/opt/wine-stable/bin/wineserver",
)
SYSTEM32 = (
    "/usr/lib/x86_64-linux-gnu/wine/x86_64-windows",
    "/usr/lib64/wine/x86_64-windows",
    "/usr/lib/wine/x86_64-windows",
    "/opt/wine-stable/lib64/wine/x86_64-windows",
)
PACKAGES = "apt install --no-install-recommends wine64 gcc-mingw-w64-x86-64"


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise InstallError(
            "the NPU compiler is installed on Linux x86-64 only. Remedy: on Windows the openvino "
            "wheel has it (docs/npu-blob.md)"
        )
    wine, server, system32 = (
        existing("wine's 64-bit loader", WINE),
        existing("wine's server", WINESERVER),
        existing("wine's own DLLs", SYSTEM32),
    )
    if shutil.which(MINGW) is None:
        raise InstallError(
            f"{MINGW} is not on PATH, and npu_compile.c is built from source. "
            f"Remedy: install mingw-w64 (Debian, Ubuntu: {PACKAGES})"
        )
    shutil.rmtree(folder, ignore_errors=True)
    libs = folder / "libs"
    libs.mkdir(parents=True)
    extract(wheel_into(folder), libs)
    run(
        [MINGW, "-O2", "-Wall", "-Wextra", "-s", "-o", str(libs / PROGRAM), str(SOURCE)],
        "npu_compile.c cannot be built; read above",
    )
    record = {
        "inputs": {path.name: sha256(path) for path in (LOCK, SOURCE)},
        "libraries": {name: sha256(libs / name) for name in LIBRARIES},
        "openvino": locked_version(),
        "program_sha256": sha256(libs / PROGRAM),
        "system32": system32,
        "wine": wine,
        "wine_version": version_of(wine),
        "wineserver": server,
    }
    marker = folder / MARKER
    partial = marker.with_name(f"{MARKER}.partial")
    partial.write_text(json.dumps(record, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    partial.replace(marker)
    print(f"NPU compiler of OpenVINO {record['openvino']}, run by {record['wine_version']}")


def existing(what: str, places: tuple[str, ...]) -> str:
    """Return the first of ``places`` that is there.

    Raises:
        InstallError: none is.
    """
    for place in places:
        if Path(place).exists():
            return place
    raise InstallError(
        f"{what} is not in {', '.join(places)}. Remedy: install wine (Debian, Ubuntu: {PACKAGES})"
    )


def wheel_into(folder: Path) -> Path:
    """Download the locked wheel."""
    failure = "pip did not download OpenVINO's Windows wheel; read above, then run again"
    download_windows_wheels(sys.executable, LOCK, folder, failure)
    [wheel] = folder.glob("openvino-*-win_amd64.whl")
    return wheel


def extract(wheel: Path, libs: Path) -> None:
    """Take the libraries and the licences out of the wheel, and delete it."""
    with zipfile.ZipFile(wheel) as archive:
        for name in LIBRARIES:
            with archive.open(f"openvino/libs/{name}") as source, (libs / name).open("wb") as copy:
                shutil.copyfileobj(source, copy)
        for name in archive.namelist():
            if ".dist-info/licenses/" in name and not name.endswith("/"):
                (libs.parent / Path(name).name).write_bytes(archive.read(name))
    wheel.unlink()


def version_of(wine: str) -> str:
    """Ask wine for its version; that it answers shows that it starts here."""
    with tempfile.TemporaryDirectory() as home:
        ended = subprocess.run(
            [wine, "--version"],
            capture_output=True,
            text=True,
            env={"HOME": home, "PATH": os.defpath},
            check=False,
        )
    if ended.returncode != 0:
        raise InstallError(f"{wine} does not start ({ended.stderr.strip()[-200:]})")
    return ended.stdout.strip()


def locked_version() -> str:
    """Return the version that the lock names."""
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if line.startswith("openvino=="):
            return line.removeprefix("openvino==").split()[0]
    raise InstallError(f"{LOCK} does not name openvino. Remedy: restore it from git")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    run_main(main)
