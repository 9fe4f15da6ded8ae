"""What goes wrong around the compiler: one line, nothing half-made, and the next run completes."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from converters.npu_blob import convert
from phiforge.artifact.npu_blob import BLOB, LABEL
from phiforge.child import without_network
from phiforge.npu_compiler import wine
from phiforge.npu_compiler.compile import compile_ir
from phiforge.npu_compiler.outcome import CompilerError
from support.checkout import NPU_COMPILER, ROOT
from support.jobs import SETTINGS
from support.small_disk import small_disk

pytestmark = pytest.mark.skipif(
    not (NPU_COMPILER / ".installed").is_file(), reason="needs `make npu-compiler`"
)

OPTIONS = dict(SETTINGS.variants["npu-blob-4000"].options)


@pytest.fixture
def ir(built: Callable[[str], Path]) -> Path:
    return built("openvino-int4-npu")


@pytest.fixture
def own_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of the compiler that a test may spoil."""
    folder = tmp_path / "compiler"
    shutil.copytree(NPU_COMPILER.resolve(), folder, copy_function=os.link)
    monkeypatch.setattr(wine, "FOLDER", str(folder))
    return folder


def tools() -> dict[str, Any]:
    return {"npu_compiler": wine.installed()}


def compile_into(folder: Path, ir: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    convert(Path("source"), folder, options=OPTIONS, base=ir, tools=tools())


def left_over(folder: Path) -> list[str]:
    """What is left of a compilation: files that are no payload's, and processes."""
    names = [
        path.name for path in folder.iterdir() if path.name in (BLOB, LABEL) or path.name[0] == "."
    ]
    return names + [f"process {pid}" for pid in compilers(folder) + compilers(folder, "wineserver")]


def compilers(folder: Path, program: str = "npu-compile.exe") -> list[int]:
    """The processes of the compiler, or of its wineserver, that work below a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (process / "cmdline").read_text(errors="replace")
            works_in = (process / "cwd").readlink()
            if program in command and works_in.is_relative_to(folder.resolve()):
                found.append(int(process.name))
    return found


def test_a_damaged_library_is_named_before_it_is_loaded(
    own_compiler: Path, ir: Path, tmp_path: Path
) -> None:
    library = own_compiler / "libs/openvino_intel_npu_compiler.dll"
    data = library.read_bytes()
    library.unlink()
    library.write_bytes(data[:-1])
    with pytest.raises(CompilerError, match=r"compiler\.dll: this part .* make npu-compiler$"):
        compile_into(tmp_path / "payload", ir)
    assert left_over(tmp_path / "payload") == []


def test_a_compiler_without_its_wine_counts_as_missing(own_compiler: Path, ir: Path) -> None:
    marker = own_compiler / ".installed"
    record = json.loads(marker.read_text())
    marker.unlink()
    assert wine.installed() is None
    marker.write_text(json.dumps({**record, "wine": "/nowhere/wine64"}))
    assert wine.installed() is None
    marker.write_text(json.dumps({**record, "inputs": {}}))
    assert wine.installed() is None, "one that was installed from another lock"


def test_a_compiler_that_is_gone_since_the_plan_is_named(
    own_compiler: Path, ir: Path, tmp_path: Path
) -> None:
    planned = tools()
    shutil.rmtree(own_compiler)
    with pytest.raises(CompilerError, match=r"is not installed\. Remedy: make npu-compiler"):
        (tmp_path / "payload").mkdir()
        convert(Path("source"), tmp_path / "payload", options=OPTIONS, base=ir, tools=planned)


def test_a_compilation_that_takes_too_long_is_ended(
    ir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(compile_ir.__kwdefaults__, "time_limit_s", 0.5)
    with pytest.raises(CompilerError, match=r"did not end within 0 s \(platform 4000\)"):
        compile_into(tmp_path / "payload", ir)
    assert left_over(tmp_path / "payload") == []


def test_a_full_disk_is_named_and_leaves_nothing(ir: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=12) as disk:
        with pytest.raises((CompilerError, OSError), match=r"(?i)write|space") as caught:
            compile_into(disk / "payload", ir)
        assert "\n" not in str(caught.value)
        assert left_over(disk / "payload") == []


@pytest.fixture
def compiling(ir: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of ours that has the compiler at work."""
    program = (
        "from pathlib import Path; from converters.npu_blob import convert; import json, sys;"
        "ir, into, options, tools = sys.argv[1:];"
        "convert(Path(), Path(into), options=json.loads(options), base=Path(ir),"
        " tools=json.loads(tools))"
    )
    into = tmp_path / "payload"
    into.mkdir()
    arguments = [str(ir), str(into), json.dumps(OPTIONS), json.dumps(tools())]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: compilers(into) != [])
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_a_compiler_ends_with_its_parent(
    compiling: subprocess.Popen[str], ir: Path, tmp_path: Path
) -> None:
    compiling.send_signal(signal.SIGKILL)
    compiling.wait()
    wait_for(lambda: compilers(tmp_path) + compilers(tmp_path, "wineserver") == [])
    shutil.rmtree(tmp_path / "payload")
    compile_into(tmp_path / "payload", ir)
    assert (tmp_path / "payload" / BLOB).is_file()


def test_a_killed_compiler_is_named_and_is_no_verdict(
    compiling: subprocess.Popen[str], tmp_path: Path
) -> None:
    for pid in compilers(tmp_path):
        os.kill(pid, signal.SIGKILL)
    assert compiling.stderr is not None
    last = compiling.stderr.read().strip().splitlines()[-1]
    assert "CompilerError: the NPU compiler's process ended with signal 9" in last
    assert left_over(tmp_path / "payload") == []


def test_two_at_once_do_not_meet_whatever_their_folders_are_called(
    ir: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / "r\N{LATIN SMALL LETTER A WITH DIAERESIS}um 1", tmp_path / "it's 2"]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda folder: compile_into(folder, ir), folders))
    first, second = (folder / BLOB for folder in folders)
    assert first.read_bytes() == second.read_bytes()


def test_the_compiler_has_no_network() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        program = f"import socket; socket.create_connection({address!r}, 2)"
        free, alone = (
            subprocess.run(
                [sys.executable, "-c", program],
                capture_output=True,
                text=True,
                check=False,
                preexec_fn=prepare,
            )
            for prepare in (None, without_network)
        )
    assert free.returncode == 0, free.stderr
    if os.geteuid() != 0 and alone.returncode == 0:
        pytest.skip("needs root, or a kernel that allows user namespaces")
    assert "unreachable" in alone.stderr
