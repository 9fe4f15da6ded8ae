"""Other locked environments: what is missing is said in one line, with the command that helps."""

import hashlib
import os
import pickle
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from phiforge import environment
from phiforge.environment import EnvironmentMissing, interpreter
from phiforge.settings.documents import read_yaml
from phiforge.settings.modules import module_files, pinned_toolchain
from phiforge.settings.plan import blocked_variant, plan, row_of
from phiforge.settings.settings import load
from support.checkout import ROOT

BUILD = ROOT / "envs/npu_library/build.py"
LIBRARY = {"npu-library-int8", "npu-library-int4", "npu-library-fp16"}


def installed(checkout: Path, locked: str) -> Path:
    """A checkout with an environment whose marker says ``locked``."""
    (checkout / "envs").mkdir()
    (checkout / "envs/npu-library.lock").write_text("a==1\n")
    python = checkout / ".venv-npu-library/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    (checkout / ".venv-npu-library/.installed").write_text(locked + "\n")
    return python


def test_an_installed_environment_has_an_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = installed(tmp_path, hashlib.sha256(b"a==1\n").hexdigest())
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert interpreter("npu-library") == python


def test_an_environment_of_another_lock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, hashlib.sha256(b"a==2\n").hexdigest())
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(EnvironmentMissing, match=r"another lock.*Remedy: make npu-library"):
        interpreter("npu-library")


def test_a_check_without_its_environment_ends_with_one_line(tmp_path: Path) -> None:
    """Through the command that a rule runs: exit code 1, no receipt, no traceback."""
    attempt = (
        "from pathlib import Path\n"
        "from phiforge import environment\n"
        "from phiforge.errors import run_command\n"
        f"environment.ROOT = Path({str(tmp_path)!r})\n"
        "from validators.isolation import run_in_subprocess\n"
        "run_command(lambda: run_in_subprocess(Path(), 'npu_library', {}, Path(), Path(),\n"
        "    time_limit_s=1, environment='npu-library'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", attempt], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == (
        f"error: {tmp_path}/.venv-npu-library: this environment is not installed. "
        "Remedy: make npu-library"
    )


def test_without_the_environment_its_variants_are_blocked_and_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")
    monkeypatch.chdir(tmp_path)
    for name in LIBRARY:
        found = blocked_variant(settings.variants[name], settings)
        assert found is not None
        assert found.remedy == "make npu-library"
    assert not LIBRARY & {variant for _, variant in plan(settings).releases}
    assert {variant for _, variant in plan(settings).builds} >= LIBRARY


def test_a_row_says_in_which_environment_its_runtime_runs() -> None:
    settings = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")
    variant = settings.variants["npu-library-int4"]
    for row in variant.devices:
        assert row_of(settings.devices[row], variant).environment == "npu-library"


def test_the_toolchain_of_another_environment_comes_from_its_lock() -> None:
    pinned = pinned_toolchain("converters.npu_library")
    assert pinned["neural-compressor (npu-library)"].startswith("3.7.")
    assert "torch" not in pinned
    runtime = pinned_toolchain("validators.check", "validators.runtimes.npu_library")
    assert runtime["openvino (npu-library)"] == "2024.4.0"
    assert runtime["numpy"] != runtime["numpy (npu-library)"]


def test_the_compiling_process_is_among_the_converters_files() -> None:
    assert "converters/npu_library/compilation.py" in module_files("converters.npu_library")


def test_the_worker_imports_nothing_that_the_library_environment_lacks() -> None:
    """attestation, jinja2, snakemake and the like are not in envs/npu-library.lock."""
    files = module_files("validators.worker", "validators.runtimes.npu_library")
    assert not [
        file
        for file in files
        if file.startswith(("phiforge/trust", "phiforge/release", "converters"))
    ]


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ((), "cmake is not on PATH"),
        (("cmake",), "a C++ compiler is not on PATH"),
        (("cmake", "c++"), "make or ninja is not on PATH"),
        (("cmake", "c++", "make"), "cmake is version 3.18"),
    ],
)
def test_a_machine_without_build_tools_is_told_what_to_install(
    tmp_path: Path, present: tuple[str, ...], missing: str
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in present:
        (tools / name).write_text("#!/bin/sh\necho cmake version 3.18.4\n")
        (tools / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CXX"}
    done = subprocess.run(
        [sys.executable, str(BUILD), str(tmp_path / "venv")],
        env={**environment, "PATH": str(tools)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {missing}")
    assert "Remedy: install" in line
    assert not (tmp_path / "venv").exists()


def test_unpickling_an_object_is_refused_and_plain_data_is_not() -> None:
    attempt = (
        "import pickle, sys\n"
        "from phiforge.child import refuse_pickles\n"
        "refuse_pickles()\n"
        "print(pickle.loads(pickle.dumps([1, 'a'])))\n"
        "pickle.loads(bytes.fromhex(sys.argv[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", attempt, pickle.dumps(Fraction(1, 3)).hex()],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "[1, 'a']\n"
    assert "PickleRefused: a pickle that names fractions.Fraction" in done.stderr
