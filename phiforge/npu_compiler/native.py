"""Run Intel's NPU compiler as native libraries, in a process with an OpenVINO of its own.

The NPU plugin opens the compiler's loader beside libopenvino.so and nowhere else (openvino
src/plugins/intel_npu/src/utils/src/vcl/vcl_api.cpp: an absolute path, so LD_LIBRARY_PATH and a
preloaded library do not help). It takes that folder from the path under which libopenvino.so was
loaded, symbolic links unresolved: a folder of links to the wheel's files, and the two libraries
among them, is an OpenVINO with a compiler. The installed wheel stays as it is.
"""

import importlib.util
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phiforge.artifact.payload_files import OPENVINO_IR
from phiforge.artifact.tree import copy_with_sha256
from phiforge.checkout import ROOT
from phiforge.npu_compiler.outcome import (
    CompilerError,
    CompilerRecord,
    run_compiler,
    version_text,
)
from phiforge.offline import OFFLINE

if TYPE_CHECKING:
    # It runs in the process; `phiforge.settings.modules` follows what is named here.
    from phiforge.npu_compiler import native_process  # noqa: F401

_PACKAGE = "openvino"
_LIBRARIES = {
    "loader": "libopenvino_intel_npu_compiler_loader.so",
    "compiler": "libopenvino_intel_npu_compiler.so",
}


def compile_ir(
    ir: Path,
    blob: Path,
    properties: Mapping[str, str],
    libraries: Mapping[str, Mapping[str, Any]] | None,
    scratch: Path,
    time_limit_s: float,
) -> CompilerRecord:
    """Compile as `phiforge.npu_compiler.compile_ir` says.

    Args:
        libraries: ``loader`` and ``compiler``, each with ``path`` and ``sha256``; None: the
            installed OpenVINO, without a compiler.

    Raises:
        IrRefused, CompilerError: as there.
    """
    path = [str(ROOT)]
    if libraries is not None:
        _with_compiler(libraries, scratch)
        path.insert(0, str(scratch))
    job = scratch / "COMPILE.json"
    names = {"ir": str((ir / OPENVINO_IR).resolve()), "blob": str(blob.resolve())}
    job.write_text(json.dumps({**names, "properties": dict(properties)}), encoding="utf-8")
    printed = run_compiler(
        [sys.executable, "-m", "phiforge.npu_compiler.native_process", str(job)],
        cwd=scratch,
        environment={
            **os.environ,
            **OFFLINE,
            "PYTHONPATH": os.pathsep.join(path),
            # Allocated memory is zeroed, as envs/npu_compiler/npu_compile.c does it and for the
            # same reason (mallopt(3), M_PERTURB: it is set to the complement of this byte).
            "MALLOC_PERTURB_": "255",
        },
        time_limit_s=time_limit_s,
        platform=properties["NPU_PLATFORM"],
    )
    said = json.loads(printed.splitlines()[-1])
    return CompilerRecord(
        openvino=said["openvino"],
        version="none" if libraries is None else version_text(said["version"]),
        libraries={
            name: libraries[part]["sha256"] for part, name in _LIBRARIES.items() if libraries
        },
        host="Linux",
    )


def _with_compiler(libraries: Mapping[str, Mapping[str, Any]], into: Path) -> None:
    """Make ``into`` a folder for PYTHONPATH: the installed OpenVINO with ``libraries``.

    Raises:
        CompilerError: a library is not what its digest says.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise CompilerError(f"package {_PACKAGE} is not installed", remedy="run 'make all'")
    _mirror(Path(spec.origin).parent, into / _PACKAGE)
    for part, name in _LIBRARIES.items():
        given = libraries[part]
        # The copy is what will be loaded, so the copy is what is digested.
        found = copy_with_sha256(Path(given["path"]), into / _PACKAGE / "libs" / name)
        if found != given["sha256"]:
            raise CompilerError(
                f"npu_compiler.{part} is not the library that the configuration trusts",
                where=given["path"],
                expected=given["sha256"],
                found=found,
                remedy="take it from OpenVINO's archive of the wheel's release, or correct its "
                "sha256 in config/config.yaml",
            )


def _mirror(package: Path, into: Path) -> None:
    """Link a package's content; folders that libraries look into from beside are made real."""
    into.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name == "libs":
            _mirror(entry, into / entry.name)
        else:
            (into / entry.name).symlink_to(entry)
