"""Make ``.directml``, in which Microsoft's DirectML runs on a CPU (`make directml`).

    python3.11 envs/directml/build.py .directml

``tree/`` is unpacked from the Debian packages of ``packages.lock`` (envs/debian.py): wine, Mesa's
software Vulkan and libvkd3d, which turns Direct3D 12 into Vulkan. In ``tree/opt/directml`` are
Microsoft's DLLs from the wheels that ``envs/directml.lock`` pins (``earlier/``: of the releases
before the one that users install), our two small DLLs and the runner, and wine's own folder. What
was fetched stays in ``packages/`` and ``wheels/``. The marker ``.installed`` is written last and
lists what the tree was made from, as sha256sum does; without it, or where a file is another one
now, the folder counts as missing (phiforge/environment.py). Run again after any failure.

Python's standard library only: this runs before anything is installed.
"""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import debian
from install import InstallError, download_windows_wheels, run, run_main

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "packages.lock"
WHEELS = HERE.parent / "directml.lock"
FILES = (
    *(HERE / name for name in ("build.py", "d3d12.c", "d3d12.spec", "dxcore.c", "packages.lock")),
    *(HERE / name for name in ("run.sh", "runner.cpp")),
    WHEELS,
)

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
    debian.prepare(
        folder, "DirectML", "on Windows use the row dml (docs/devices.md)", "wheels", "tree"
    )
    fetch_wheels(folder / "wheels")
    debian.make_tree(folder, PACKAGES, "directml")
    for route, wheels in _ROUTES.items():
        for wheel in wheels:
            take_libraries(folder / "wheels", wheel, folder / "tree/opt/directml" / route)
    enter = debian.enter(folder)
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
    debian.finish(folder, FILES)


def fetch_wheels(into: Path) -> None:
    """Fetch the locked Windows wheels with pip, as it is configured."""
    with tempfile.TemporaryDirectory(prefix="phiforge-directml-") as scratch:
        run([sys.executable, "-m", "venv", scratch], "no environment for pip can be made")
        failure = f"pip did not fetch the wheels of envs/{WHEELS.name}; read above, then run again"
        download_windows_wheels(f"{scratch}/bin/python", WHEELS, into, failure)


def take_libraries(wheels: Path, name: str, into: Path) -> None:
    """Unpack the DLLs of the wheel ``name``, in the version that the lock names."""
    into.mkdir(parents=True, exist_ok=True)
    [version] = re.findall(rf"^{name}==(\S+)", WHEELS.read_text("utf-8"), flags=re.MULTILINE)
    [wheel] = wheels.glob(f"{name.replace('-', '_')}-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".dll"):
                (into / Path(name).name).write_bytes(archive.read(name))


if __name__ == "__main__":
    run_main(main)
