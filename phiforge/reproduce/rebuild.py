"""Run one conversion again where everything that must not matter is different.

Another folder (with a space in its name), another copy of the checkout without its git history,
another home, user, locale, time zone, hash seed, number of threads and, where the processor has
more, a smaller instruction set.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from converters import convert
from phiforge.artifact.record import write_record
from phiforge.artifact.scratch import remove_tree
from phiforge.artifact.tree import files_under, fresh_tree, link_or_copy
from phiforge.cache import CACHE, PAYLOADS
from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError

CONDITIONS = "CONDITIONS.json"
_INSTALLED = (".venv*", ".npu-compiler")
_LEFT_BEHIND = (".git", ".snakemake", *_INSTALLED, "artifacts", ".*_cache", "__pycache__")
_CPUINFO = Path("/proc/cpuinfo")


class RebuildError(PhiforgeError):
    """The second build did not end well, so nothing can be said about its bytes."""


add_arguments = convert.add_arguments  # the command takes what the first conversion took


def run(arguments: argparse.Namespace) -> None:
    rebuild(arguments.job, arguments.source, arguments.base, arguments.into, arguments.memory_mb)


def varied_environment(home: Path) -> dict[str, str]:
    """Environment of the second build; the instruction set variables are each library's own.

    oneDNN (torch, OpenVINO): ``ONEDNN_MAX_CPU_ISA``; ATen: ``ATEN_CPU_CAPABILITY``; NumPy:
    ``NPY_DISABLE_CPU_FEATURES``. ONNX Runtime's MLAS has no such switch.
    """
    environment = {
        "HOME": str(home),
        "USER": "someone-else",
        "LOGNAME": "someone-else",
        "LC_ALL": "C",
        "TZ": "Pacific/Auckland",
        "PYTHONHASHSEED": "4711",
        "OMP_NUM_THREADS": "1",
    }
    if has_avx512():
        environment |= {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "ATEN_CPU_CAPABILITY": "avx2",
            "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL "
            "AVX512_ICL",
        }
    return environment


def has_avx512() -> bool:
    """Whether this processor has an instruction set beyond AVX2 that can be left out."""
    return _CPUINFO.is_file() and " avx512f " in _CPUINFO.read_text(encoding="utf-8")


def rebuild(job: Path, source: Path, base: Path | None, into: Path, memory_mb: int = 0) -> None:
    """Convert again; ``into`` receives payload, BUILD.json and CONDITIONS.json.

    Args:
        job: the file of the `phiforge.jobs.Convert`.
        source: SOURCE.json of the verified source.
        base: BUILD.json of the rebuilt base, where the variant is derived from one.
        memory_mb: memory that the conversion needs.

    Raises:
        RebuildError: the conversion failed; its own message is above.
    """
    into.mkdir(parents=True, exist_ok=True)
    elsewhere = Path(tempfile.mkdtemp(prefix=".elsewhere ", dir=into.resolve()))
    try:
        checkout = elsewhere / "another checkout"
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*_LEFT_BEHIND), symlinks=True)
        for folder in (path for pattern in _INSTALLED for path in ROOT.glob(pattern)):
            (checkout / folder.name).symlink_to(folder.resolve())
        home = elsewhere / "home"
        home.mkdir()
        environment = varied_environment(home)
        command = [sys.executable, "-m", "phiforge", "convert", str(job.resolve())]
        command += ["--memory-mb", str(memory_mb)]
        command += ["--source", str(_copy(source, elsewhere / "source", "files"))]
        if base is not None:
            command += ["--base", str(_copy(base, elsewhere / "base", "payload"))]
        command += ["--into", str(elsewhere / "out")]
        ended = subprocess.run(
            command, cwd=checkout, env={**_clean(os.environ), **environment}, check=False
        )
        if ended.returncode != 0:
            raise RebuildError(
                f"the second build ended with exit code {ended.returncode}",
                where=into,
                remedy="read the lines above this one in the log",
            )
        _take(elsewhere / "out", into, environment)
    finally:
        remove_tree(elsewhere)


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what makes the second build another's: other code, and what a cache holds."""
    left_out = ("PYTHONPATH", CACHE, PAYLOADS)
    return {name: value for name, value in environment.items() if name not in left_out}


def _copy(record: Path, folder: Path, tree: str) -> Path:
    """The record and its tree under another path; files are linked where links reach."""
    for name in files_under(record.parent / tree):
        link_or_copy(record.parent / tree / name, folder / tree / name)
    shutil.copyfile(record, folder / record.name)
    return folder / record.name


def _take(out: Path, into: Path, environment: Mapping[str, str]) -> None:
    with fresh_tree(into / "payload") as payload:
        for name in files_under(out / "payload"):
            link_or_copy(out / "payload" / name, payload / name)
    shown = {name: value for name, value in environment.items() if name != "HOME"}
    write_record(
        into / CONDITIONS, {"environment": shown, "another": ["folder", "home", "checkout"]}
    )
    (out / "BUILD.json").replace(into / "BUILD.json")
