"""Run Intel's NPU compiler out of OpenVINO's Windows wheel, under wine.

``make npu-compiler`` lays down ``.npu-compiler`` (envs/npu_compiler/build.py): the wheel's DLLs
that are needed, and ``npu-compile.exe`` of ours. OpenVINO's CPU plugin is not among them, so that
nothing can be compiled for the CPU instead. Each compilation has a wine prefix of its own, made of
links: wine's DLLs serve as its Windows folder, and ``.update-timestamp`` keeps wine from filling
the prefix with copies of them (wine programs/wineboot/wineboot.c, update_wineprefix).
"""

import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from phiforge.artifact.payload_files import OPENVINO_IR, OPENVINO_WEIGHTS
from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.child import die_with_parent, without_network
from phiforge.npu_compiler.outcome import (
    CompilerError,
    CompilerRecord,
    IrRefused,
    run_compiler,
    version_text,
)

FOLDER = ".npu-compiler"
MARKER = ".installed"
PROGRAM = "npu-compile.exe"
DIGEST = "installed_sha256"
"""Key of the tool's value: what of the installation shapes a blob, as one digest."""

_INPUTS = (Path("envs/npu-compiler.lock"), Path("envs/npu_compiler/npu_compile.c"))
_BLOB = "model.blob"
_REMEDY = "make npu-compiler"
_SERVER_START_S, _SERVER_END_S = 5.0, 10.0


def installed() -> dict[str, str] | None:
    """Return the compiler that is installed, as jobs name it; None: none, or one of another lock.

    Two machines that installed it from the same lock and source give the same value.
    """
    try:
        record = _record()
    except (OSError, ValueError):
        return None
    usable = record.get("inputs") == _inputs() and all(
        Path(record[key]).exists() for key in ("wine", "wineserver", "system32")
    )
    return {DIGEST: _digest(record["inputs"])} if usable else None


def compile_ir(
    ir: Path,
    blob: Path,
    properties: Mapping[str, str],
    installed_sha256: str,
    scratch: Path,
    time_limit_s: float,
) -> CompilerRecord:
    """Compile as `phiforge.npu_compiler.compile_ir` says.

    Args:
        installed_sha256: the installation that the job was made for.

    Raises:
        IrRefused, CompilerError: as there.
    """
    record = _verified_record(installed_sha256)
    prefix, work = scratch.resolve() / "prefix", scratch.resolve() / "work"
    _make_prefix(prefix, Path(record["system32"]))
    work.mkdir()
    for name in (OPENVINO_IR, OPENVINO_WEIGHTS):
        (work / name).symlink_to((ir / name).resolve())
    environment = {
        "WINEPREFIX": str(prefix),
        "HOME": str(prefix),
        "TMPDIR": str(prefix),  # of wineserver's socket
        "WINEDEBUG": "-all",
        "WINEDLLOVERRIDES": "mscoree,mshtml,winemenubuilder.exe=",
        "LC_ALL": "C.UTF-8",
        "PATH": os.defpath,
    }
    # No path is given to the compiler: names in its working folder need no translation.
    command = [record["wine"], str(ROOT / FOLDER / "libs" / PROGRAM), OPENVINO_IR, _BLOB]
    command += [text for pair in properties.items() for text in pair]
    try:
        with _server(record["wineserver"], prefix, environment):
            printed = run_compiler(
                command,
                cwd=work,
                environment=environment,
                time_limit_s=time_limit_s,
                platform=properties["NPU_PLATFORM"],
                prepare=_alone,
            )
    except IrRefused as error:
        if "bad alloc" in str(error):
            raise CompilerError(
                "the NPU compiler ran out of memory", remedy="run it on a machine with more"
            ) from None
        raise
    (work / _BLOB).replace(blob)
    said = dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)
    return CompilerRecord(
        openvino=record["openvino"],
        version=version_text(said["NPU_COMPILER_VERSION"]),
        libraries=record["libraries"],
        host=record["wine_version"],
    )


def _alone() -> None:
    die_with_parent()
    without_network()


@contextmanager
def _server(program: str, prefix: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Run the prefix's wineserver, which ends with this process.

    One that the compiler starts itself would be nobody's child, and would wait for ever for the
    first client if the compiler was killed before it had connected.
    """
    server = subprocess.Popen(
        [program, "--foreground"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,  # noqa: PLW1509 (no lock is taken in it)
    )
    try:
        deadline = time.monotonic() + _SERVER_START_S
        while not _listens(prefix) and time.monotonic() < deadline:
            if server.poll() is not None:
                raise CompilerError("wineserver does not start", where=program, remedy=_REMEDY)
            time.sleep(0.005)
        yield
    finally:
        server.send_signal(signal.SIGINT)  # it ends its clients first (wine server/signal.c)
        try:
            server.wait(_SERVER_END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _listens(prefix: Path) -> bool:
    """Whether the prefix's server has its socket, where Debian's wine or wine's own has it.

    Elsewhere nobody sees it; the compiler then waits for its server itself.
    """
    at = prefix.stat()
    socket = f"*wine*/server-{at.st_dev:x}-{at.st_ino:x}/socket"
    return any(True for folder in (prefix, Path("/tmp")) for _ in folder.glob(socket))


def _make_prefix(prefix: Path, system32: Path) -> None:
    for folder in ("drive_c/windows", "dosdevices"):
        (prefix / folder).mkdir(parents=True)
    (prefix / ".update-timestamp").write_text("disable", encoding="ascii")
    (prefix / "drive_c/windows/system32").symlink_to(system32)
    (prefix / "dosdevices/c:").symlink_to("../drive_c")
    (prefix / "dosdevices/z:").symlink_to("/")


def _verified_record(installed_sha256: str) -> dict[str, Any]:
    """Return what was installed, each file held against its digest of then.

    Raises:
        CompilerError: it is gone, is another one, or a file is damaged.
    """
    folder = ROOT / FOLDER
    now = installed()
    if now is None or now[DIGEST] != installed_sha256:
        raise CompilerError(
            "the NPU compiler that this job was made for is not installed",
            where=folder,
            remedy=_REMEDY,
        )
    record = _record()
    for name, expected in {**record["libraries"], PROGRAM: record["program_sha256"]}.items():
        file = folder / "libs" / name
        found = sha256_file(file) if file.is_file() else "no file"
        if found != expected:
            raise CompilerError(
                "this part of the NPU compiler is not what was installed",
                where=file,
                expected=expected,
                found=found,
                remedy=_REMEDY,
            )
    return record


def _record() -> dict[str, Any]:
    record = json.loads((ROOT / FOLDER / MARKER).read_text(encoding="utf-8"))
    if not isinstance(record, dict):
        raise ValueError(MARKER)
    return record


@cache
def _inputs() -> dict[str, str]:
    return {path.name: sha256_file(ROOT / path) for path in _INPUTS}


def _digest(inputs: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
