"""Run a check's child process in the tree of `make intel-gpu`, with the kernels compiled before.

The child is this environment's packages in Debian's Python, in namespaces of its own
(envs/enter.sh): it has no network, no device of this machine, and ends with its parent. Our OpenCL
layer is named in its environment only. What PoCL compiles stays in the check's folder; kernels.zip
gets it when the child has ended by itself, so that a killed check leaves nothing there.
"""

import errno
import os
import shutil
import sysconfig
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from phiforge.artifact.file_lock import file_lock
from phiforge.checkout import ROOT
from phiforge.environment import debian_tree
from validators.contract import CheckError

NAME = "intel-gpu"
LAYER = Path("/opt/intel-gpu/layer.so")
_DIAGNOSTICS = ("PHIFORGE_WATCH",)  # envs/intel_gpu/watch.c; what it sees is in the check's log
_KERNELS = "kernels"
_ROOM = 1 << 20  # bytes


def command_in_tree(
    arguments: Sequence[str], read: Iterable[Path], write: Path, environment: Mapping[str, str]
) -> list[str]:
    """Return what runs Python with ``arguments`` in the tree, in the folder ``write``.

    Args:
        read: folders that it may read, beside the checkout and the installed packages.

    Raises:
        EnvironmentMissing: `make intel-gpu` was not run.
    """
    tree, packages = debian_tree(NAME), Path(sysconfig.get_path("purelib")).resolve()
    folders = {ROOT, packages, *(folder.resolve() for folder in read)}
    variables = {
        **environment,
        "PYTHONPATH": f"{ROOT}:{packages}",
        "OCL_ICD_VENDORS": "/opt/intel-gpu/vendors",
        "OPENCL_LAYERS": str(LAYER),
        "POCL_CACHE_DIR": str(write / _KERNELS),
        # Work-groups of one or two it would unroll, and there forget the sub-groups' storage: the
        # kernel does not load, and the process dies (softmax_gpu_bf over 5 keys).
        "POCL_FULL_REPLICATION_THRESHOLD": "0",
        **{name: os.environ[name] for name in _DIAGNOSTICS if name in os.environ},
    }
    return [
        *("sh", str(tree / "enter.sh"), str(tree)),
        *(word for folder in sorted(folders) for word in ("--read", f"{folder}:{folder}")),
        *("--write", f"{write}:{write}", "--", "env", f"--chdir={write}"),
        *(f"{name}={value}" for name, value in variables.items()),
        *("python3.11", "-S", *arguments),
    ]


def take_kernels(folder: Path) -> None:
    """Unpack the kernels that earlier checks compiled below ``folder``; a damaged file goes."""
    archive, kernels = _archive(), folder / _KERNELS
    with suppress(OSError), file_lock(archive.with_suffix(".lock")):
        try:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(kernels)
        except FileNotFoundError:
            pass
        except (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
            shutil.rmtree(kernels, ignore_errors=True)  # PoCL would load half a kernel
            if getattr(error, "errno", None) != errno.ENOSPC:
                print(f"{archive}: damaged ({error}); its kernels are compiled again")
                archive.unlink()
    kernels.mkdir(exist_ok=True)


def refuse_full_disk(folder: Path) -> None:
    """What PoCL cannot write for want of room is nothing against the artifact.

    Raises:
        CheckError: less than a megabyte is left.
    """
    if shutil.disk_usage(folder).free < _ROOM:
        raise CheckError(
            "no room is left for what PoCL compiles", where=folder, remedy="make room on this disk"
        )


def keep_kernels(folder: Path) -> None:
    """Add what was compiled below ``folder`` to the kernels of later checks.

    A disk without room for them keeps none: they cost the next check its time, and nothing else.
    """
    archive, kernels = _archive(), folder / _KERNELS
    partial = archive.with_suffix(".partial")
    with suppress(OSError), file_lock(archive.with_suffix(".lock")):
        try:
            if archive.exists():
                shutil.copyfile(archive, partial)
            with zipfile.ZipFile(partial, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
                known = set(packed.namelist())
                for file in sorted(kernels.glob("*/**/*")):
                    name = str(file.relative_to(kernels))
                    if file.is_file() and name not in known:
                        packed.write(file, name)
            partial.replace(archive)
        finally:
            partial.unlink(missing_ok=True)


def _archive() -> Path:
    return debian_tree(NAME) / "kernels.zip"
