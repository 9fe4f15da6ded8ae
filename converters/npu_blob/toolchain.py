"""OpenVINO with its NPU compiler, laid out for one process; the installed wheel stays as it is.

The NPU plugin opens the compiler's loader beside libopenvino.so and nowhere else (openvino
src/plugins/intel_npu/src/utils/src/vcl/vcl_api.cpp: an absolute path, so LD_LIBRARY_PATH and a
preloaded library do not help). It takes that folder from the path under which libopenvino.so was
loaded, symbolic links unresolved: a folder of links to the wheel's files, and the two libraries
among them, is an OpenVINO with a compiler.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.contract import ConvertError
from phiforge.artifact.tree import copy_with_sha256

_PACKAGES = ("openvino", "openvino_genai", "openvino_tokenizers")
NAMES = {
    "loader": "libopenvino_intel_npu_compiler_loader.so",
    "compiler": "libopenvino_intel_npu_compiler.so",
}


def lay_out(libraries: Mapping[str, Mapping[str, Any]], into: Path) -> None:
    """Make ``into`` a folder for PYTHONPATH: the installed OpenVINO with ``libraries``.

    Args:
        libraries: ``loader`` and ``compiler``, each with ``path`` and ``sha256``.

    Raises:
        ConvertError: a library is not what its digest says.
    """
    for package in _PACKAGES:
        _mirror(_installed(package), into / package)
    libs = into / "openvino/libs"
    for part, name in NAMES.items():
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
    """Links to a package's content; folders that libraries look into from beside are made real."""
    into.mkdir(parents=True)
    for entry in package.iterdir():
        if entry.name == "libs":
            _mirror(entry, into / entry.name)
        else:
            (into / entry.name).symlink_to(entry)
