"""Run the NPU compiler: Intel's native libraries, in a process with an OpenVINO of its own.

This is the compile backend; another one gives what `compile_blob` gives. The NPU plugin opens the
compiler's loader beside libopenvino.so and nowhere else (openvino
src/plugins/intel_npu/src/utils/src/vcl/vcl_api.cpp: an absolute path, so LD_LIBRARY_PATH and a
preloaded library do not help). It takes that folder from the path under which libopenvino.so was
loaded, symbolic links unresolved: a folder of links to the wheel's files, and the two libraries
among them, is an OpenVINO with a compiler. The installed wheel stays as it is.
"""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.contract import ConvertError
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import copy_with_sha256
from phiforge.checkout import ROOT
from phiforge.offline import OFFLINE

if TYPE_CHECKING:
    # It runs in the process; `phiforge.settings.modules` follows what is named here.
    from converters.npu_blob import export  # noqa: F401

COMPILED = "COMPILED.json"
LIBRARIES = {
    "loader": "libopenvino_intel_npu_compiler_loader.so",
    "compiler": "libopenvino_intel_npu_compiler.so",
}
_PACKAGES = ("openvino", "openvino_genai", "openvino_tokenizers")
_ERROR = "error: "


def compile_blob(
    job: Mapping[str, Any], base: Path, into: Path, *, packages: Path | None
) -> dict[str, Any]:
    """Let `converters.npu_blob.export` write the blob into ``into``; return what it recorded.

    Args:
        job: of `converters.npu_blob.export`, without its folders.
        base: folder of the IR.
        packages: of `with_compiler`; None: the installed OpenVINO.

    Raises:
        ConvertError: the process failed, in its own words if it had some.
    """
    job_file = into / "COMPILE.json"
    job_file.write_text(
        json.dumps({**job, "ir": str(base.resolve()), "into": str(into.resolve())}),
        encoding="utf-8",
    )
    path = [str(packages)] if packages else []
    ended = subprocess.run(
        [sys.executable, "-m", "converters.npu_blob.export", str(job_file)],
        env={**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)])},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    *before, last = ended.stderr.strip().splitlines() or [""]
    if ended.returncode == 1 and last.startswith(_ERROR):
        print("\n".join(before), file=sys.stderr, end="\n" if before else "", flush=True)
        raise ConvertError(last.removeprefix(_ERROR))
    print(ended.stderr, file=sys.stderr, end="", flush=True)
    if ended.returncode != 0:
        raise ConvertError(
            f"the compile process ended with exit code {ended.returncode}",
            remedy="read the lines above this one in the log",
        )
    return read_record(into / COMPILED)


def with_compiler(libraries: Mapping[str, Mapping[str, Any]], into: Path) -> None:
    """Make ``into`` a folder for PYTHONPATH: the installed OpenVINO with ``libraries``.

    Args:
        libraries: ``loader`` and ``compiler``, each with ``path`` and ``sha256``.

    Raises:
        ConvertError: a library is not what its digest says.
    """
    for package in _PACKAGES:
        _mirror(_installed(package), into / package)
    libs = into / "openvino/libs"
    for part, name in LIBRARIES.items():
        given = libraries[part]
        # The copy is what will be loaded, so the copy is what is digested.
        found = copy_with_sha256(Path(given["path"]), libs / name)
        if found != given["sha256"]:
            raise ConvertError(
                f"npu_compiler.{part} is not the library that the configuration trusts",
                where=given["path"],
                expected=given["sha256"],
                found=found,
                remedy="take it from OpenVINO's archive of the wheel's release, or correct its "
                "sha256 in config/config.yaml",
            )


def _installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ConvertError(f"package {package} is not installed", remedy="run 'make all'")
    return Path(spec.origin).parent


def _mirror(package: Path, into: Path) -> None:
    """Link a package's content; folders that libraries look into from beside are made real."""
    into.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name == "libs":
            _mirror(entry, into / entry.name)
        else:
            (into / entry.name).symlink_to(entry)
