"""`make npu-compiler` says in one line what is missing, and takes the locked wheel only."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from phiforge.settings.modules import locked
from support.checkout import ROOT

BUILD = ROOT / "envs/npu_compiler/build.py"


def install(folder: Path, *, without: str = "", **environment: str) -> tuple[int, str]:
    """Run the installation where the places ``without`` are empty; exit code and standard error."""
    program = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('build', {str(BUILD)!r});"
        "build = importlib.util.module_from_spec(spec); spec.loader.exec_module(build);"
        f"setattr(build, {without!r}, ('/nowhere',)) if {without!r} else None;"
        f"sys.argv[1:] = [{str(folder)!r}]\n"
        "try: build.main()\n"
        "except build.InstallError as error: sys.exit(f'error: {error}')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("place", ["WINE", "WINESERVER", "SYSTEM32"])
def test_missing_wine_is_one_line_with_the_package(place: str, tmp_path: Path) -> None:
    code, error = install(tmp_path / "compiler", without=place)
    assert code == 1 and error.count("\n") == 1
    assert "/nowhere. Remedy: install wine (Debian, Ubuntu: apt install" in error
    assert not (tmp_path / "compiler").exists()


def needs_wine() -> None:
    if not Path("/usr/lib/wine/wine64").exists():
        pytest.skip("needs wine (apt install wine64)")


def test_missing_mingw_is_one_line_with_the_package(tmp_path: Path) -> None:
    needs_wine()
    code, error = install(tmp_path / "compiler", PATH=str(tmp_path))
    assert code == 1 and error.count("\n") == 1
    assert re.search(r"mingw32-gcc is not on PATH.*gcc-mingw-w64-x86-64", error)
    assert not (tmp_path / "compiler").exists()


def test_another_wheel_is_refused_and_installs_nothing(tmp_path: Path) -> None:
    needs_wine()
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    release = locked(Path("envs/npu-compiler.lock"))["openvino"].version
    with zipfile.ZipFile(wheels / f"openvino-{release}-1-cp311-cp311-win_amd64.whl", "w") as wheel:
        wheel.writestr(f"openvino-{release}.dist-info/METADATA", "Name: openvino\n")
    code, error = install(tmp_path / "compiler", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    assert code == 1
    assert error.splitlines()[-1].startswith("error: pip did not download OpenVINO's Windows wheel")
    assert "HASHES" in error
    assert not (tmp_path / "compiler/.installed").exists()


def test_the_compiler_is_of_the_release_that_loads_what_it_makes() -> None:
    compiler = locked(Path("envs/npu-compiler.lock"))["openvino"].version
    assert compiler == locked()["openvino"].version
