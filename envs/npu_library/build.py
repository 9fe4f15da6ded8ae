"""Install ``.venv-npu-library`` from its lock (`make npu-library`).

    python3.11 envs/npu_library/build.py .venv-npu-library

Everything comes through pip from ``envs/npu-library.lock``, hashes required. One entry is a
source distribution, the library itself: pip builds it with CMake, steered by
``envs/npu_library/toolchain.cmake``. The marker ``.installed`` is written last and holds the
lock's SHA-256; without it the environment counts as missing. Run again after any failure.

Python's standard library only: this runs before anything is installed.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from install import InstallError, run, run_main

HERE = Path(__file__).resolve().parent
LOCK = HERE.parent / "npu-library.lock"
LIBRARY = "intel-npu-acceleration-library"
MARKER = ".installed"
OLDEST_CMAKE = (3, 21)  # the first that reads CMAKE_TOOLCHAIN_FILE from the environment
PACKAGES = "lib/python3.11/site-packages"
TRY = "import intel_npu_acceleration_library as library; print(library.__version__)"


def main() -> None:
    venv = Path(sys.argv[1]).absolute()
    refuse_what_cannot_work()
    (venv / MARKER).unlink(missing_ok=True)
    run([sys.executable, "-m", "venv", "--clear", str(venv)], "the environment cannot be made")
    lock = LOCK.read_text(encoding="utf-8")
    library, rest = split(lock)
    with tempfile.TemporaryDirectory(prefix="phiforge-npu-library-") as name:
        scratch = Path(name)
        pip_install(venv, rest, scratch / "wheels.lock")
        build(venv, library, scratch)
    link_openvino(venv / PACKAGES)
    run(
        [str(venv / "bin/python"), "-W", "ignore", "-c", TRY],
        f"{LIBRARY} is built but cannot be loaded; run 'make npu-library' again and read above",
    )
    (venv / MARKER).write_text(hashlib.sha256(lock.encode()).hexdigest() + "\n", encoding="utf-8")


def refuse_what_cannot_work() -> None:
    """The build needs Linux on x86-64, Python 3.11, CMake, a C++ compiler and make or ninja.

    Raises:
        InstallError: naming what is missing.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise InstallError(
            "the library is built here on Linux x86-64 only. Remedy: on Windows install PyPI's "
            "wheel (docs/npu-library.md)"
        )
    if sys.version_info[:2] != (3, 11):
        raise InstallError(
            f"this is Python {sys.version.split()[0]}; expected 3.11. "
            "Remedy: make npu-library PYTHON=/path/to/python3.11"
        )
    needed = {
        "cmake": ("cmake",),
        "a C++ compiler": (os.environ.get("CXX", "c++"), "g++"),
        "make or ninja": ("make", "ninja"),
    }
    for what, programs in needed.items():
        if not any(shutil.which(program) for program in programs):
            raise InstallError(
                f"{what} is not on PATH, and {LIBRARY} is built from source. "
                "Remedy: install cmake, g++ and make (Debian, Ubuntu: apt install cmake g++ make)"
            )
    told = subprocess.run(["cmake", "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"(\d+)\.(\d+)", told.stdout)
    if version is None or (int(version[1]), int(version[2])) < OLDEST_CMAKE:
        raise InstallError(
            f"cmake is version {version[0] if version else 'unknown'}; expected 3.21 or later, "
            "which takes its overrides from the environment. Remedy: install a newer cmake"
        )


def split(lock: str) -> tuple[str, str]:
    """The lock's entry of the library, and all other entries.

    Raises:
        InstallError: the lock does not name the library.
    """
    entry = re.search(rf"^{LIBRARY}==(?:.*\\\n)*.*\n", lock, flags=re.MULTILINE)
    if entry is None:
        raise InstallError(f"{LOCK} does not name {LIBRARY}. Remedy: make lock")
    return entry[0], lock[: entry.start()] + lock[entry.end() :]


def pip_install(
    venv: Path, requirements: str, file: Path, *options: str, **environment: str
) -> None:
    """Install exactly ``requirements``, hashes required, nothing that they ask for besides."""
    file.write_text(requirements, encoding="utf-8")
    command = [str(venv / "bin/python"), "-m", "pip", "install", "--no-deps", "--require-hashes"]
    run(
        [*command, *options, "-r", str(file)],
        "pip did not install the environment. If it found no torch==…+cpu: name PyTorch's CPU "
        "wheel index to pip (docs/toolchain.md); else read above; then run again",
        **environment,
    )


def build(venv: Path, library: str, scratch: Path) -> None:
    """Let pip build the library's source distribution against the installed openvino wheel."""
    empty = scratch / "openvino"
    empty.mkdir()
    pip_install(
        venv,
        library,
        scratch / "library.lock",
        "--no-build-isolation",  # setuptools is in the lock
        "--no-cache-dir",  # a wheel in pip's cache may be another machine's build
        CMAKE_TOOLCHAIN_FILE=str(HERE / "toolchain.cmake"),
        NPU_LIBRARY_OPENVINO=str(venv / PACKAGES / "openvino"),
        NPU_LIBRARY_EMPTY=str(empty),
    )


def link_openvino(packages: Path) -> None:
    """Put the wheel's libraries where the library looks for them, beside its own.

    It loads ``lib/libopenvino.so``, and OpenVINO looks for its plugins in that folder.
    """
    folder = packages / "intel_npu_acceleration_library" / "lib"
    for library in sorted((packages / "openvino" / "libs").glob("*.so*")):
        (folder / library.name).symlink_to(f"../../openvino/libs/{library.name}")
    [core] = folder.glob("libopenvino.so.*")
    (folder / "libopenvino.so").symlink_to(core.name)


if __name__ == "__main__":
    run_main(main)
