"""What the Makefile does by itself: real make, in a folder that has only what the target needs."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.checkout import ROOT


def test_clean_never_removes_what_no_run_makes_again(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    artifacts = tmp_path / "artifacts"
    kept = [
        "README.md",
        "inbox/brought.zip",
        "release/m/versions.json",
        "release/m/revocations.json",
        "release/m/a-stable/weights.bin",
        "release/m/a-stable/evidence/promotion.dsse.json",
    ]
    removed = [
        "build/m/v/BUILD.json",
        "checks/m/v/cpu.json",
        "release/m/index.json",
        "release/m/index.html",
        "release/index.html",
        "release/m/candidate/weights.bin",
    ]
    for name in kept + removed:
        (artifacts / name).parent.mkdir(parents=True, exist_ok=True)
        (artifacts / name).write_text("x")
    (artifacts / "release/m/candidate/weights.bin").chmod(0o444)
    for _ in range(2):
        done = subprocess.run(
            ["make", "clean"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert "kept: artifacts/release/m/a-stable/ (stable)" in done.stdout
        left = [path for path in artifacts.rglob("*") if path.is_file()]
        assert sorted(str(path.relative_to(artifacts)) for path in left) == sorted(kept)
    shutil.rmtree(artifacts)
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)


def test_another_python_is_refused_with_the_ways_to_the_right_one(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "envs").mkdir()
    for name in ("envs/main.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    other, right = tmp_path / "other/python3", tmp_path / "right/python3.11"
    for path, program in ((other, "echo Python 3.14.1; exit 1"), (right, f"touch {tmp_path}/ran")):
        path.parent.mkdir()
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)

    def make(*folders: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        plain = {"PATH": ":".join(map(str, [*folders, tmp_path / "tools"])), **variables}
        make = str(shutil.which("make"))
        return subprocess.run(
            [make, "all"], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False
        )

    (tmp_path / "tools").mkdir()
    for tool in ("sh", "sed", "head", "touch"):
        (tmp_path / "tools" / tool).symlink_to(str(shutil.which(tool)))
    for done in (make(other.parent), make(right.parent, PYTHON=str(other)), make()):
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert done.returncode != 0 and not (tmp_path / ".venv").exists()
        assert "expected Python 3.11, found" in line
        for way in ("apt install python3.11-venv", "pyenv", "uv python install", "conda create"):
            assert way in line
        assert line.endswith("then run make all PYTHON=/path/to/python3.11")
    assert "found Python 3.14.1. Remedy" in make(other.parent).stderr
    assert not (tmp_path / "ran").exists()
    make(right.parent, other.parent)
    assert (tmp_path / "ran").exists(), "python3.11 goes before python3"


@dataclass
class Index:
    """A package index on loopback, and what it was asked for."""

    address: str
    asked: list[str]


@contextmanager
def index(folder: Path) -> Iterator[Index]:
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Index(f"http://127.0.0.1:{server.server_port}/", asked)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_wheel(folder: Path, name: str, version: str) -> str:
    """Put an empty distribution into a folder of an index; its lines in a lock."""
    stem = f"{name}-{version}"
    (folder / name).mkdir(parents=True)
    path = folder / name / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel.writestr(f"{stem}.dist-info/METADATA", head)
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{stem}.dist-info/WHEEL", tags)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    link = path.name.replace("+", "%2B")
    (folder / name / "index.html").write_text(f'<a href="{link}">{path.name}</a>')
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n    # via\n    #   a-test\n"


def test_torch_alone_comes_from_its_own_index_and_only_if_pips_lack_it(tmp_path: Path) -> None:
    theirs, others = tmp_path / "theirs", tmp_path / "others"
    torch = write_wheel(theirs, "torch", "2.13.0+cpu")
    (tmp_path / "envs").mkdir()
    lock = f"{torch}{write_wheel(others, 'zzz', '1.0')}"
    (tmp_path / "envs/main.lock").write_text(lock)
    # In the place of phiforge, a distribution that needs nothing to be installed in place.
    write_wheel(tmp_path, "phiforge", "0")
    (tmp_path / "backend.py").write_text(
        "import shutil\n"
        "def build_editable(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'phiforge-0-py3-none-any.whl'\n"
        "    shutil.copy(f'phiforge/{name}', folder)\n"
        "    return name\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    shutil.copy(ROOT / "Makefile", tmp_path)

    def make(*variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / ".venv/.installed").unlink(missing_ok=True)
        plain = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        return subprocess.run(
            ["make", ".venv/.installed", f"PYTHON={sys._base_executable}", *variables],  # type: ignore[attr-defined]
            cwd=tmp_path,
            env={**plain, "PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": pip.address},
            capture_output=True,
            text=True,
            check=False,
        )

    with index(others) as pip, index(theirs) as pytorch:
        done = make("TORCH_INDEX=")
        assert done.returncode != 0 and not (tmp_path / ".venv/.installed").exists()
        remedy = "make .venv/.installed TORCH_INDEX=<an index that has it> (docs/toolchain.md"
        assert remedy in done.stderr
        assert pytorch.asked == []

        done = make(f"TORCH_INDEX={pip.address}nothing/")
        assert done.returncode != 0 and not (tmp_path / ".venv/.installed").exists()
        assert remedy in done.stderr

        done = make(f"TORCH_INDEX={pytorch.address}")
        assert done.returncode == 0, done.stderr
        assert "torch==2.13.0+cpu is on none of pip's indexes: taken from" in done.stdout
        assert {path.split("/")[1] for path in pytorch.asked} == {"torch"}

        pytorch.asked.clear()
        shutil.copytree(theirs / "torch", others / "torch")
        for installed in tmp_path.glob(".venv/lib/*/site-packages/torch-*"):
            shutil.rmtree(installed)
        assert make(f"TORCH_INDEX={pytorch.address}").returncode == 0
        assert pytorch.asked == []
