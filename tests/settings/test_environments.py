"""Other locked environments: what is missing is said in one line, with the command that helps."""

import hashlib
import pickle
from fractions import Fraction
from pathlib import Path

import pytest

from phiforge import environment
from phiforge.environment import EnvironmentMissing, interpreter
from phiforge.settings.modules import module_files, pinned_toolchain
from phiforge.settings.plan import blocked_variant, plan, row_of
from support.checkout import ROOT
from support.jobs import SETTINGS, python

BUILD = ROOT / "envs/npu_library/build.py"
LIBRARY = {"npu-library-int8", "npu-library-int4", "npu-library-fp16"}


def test_only_an_environment_of_the_current_lock_has_an_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/npu-library.lock").write_text("a==1\n")
    python = tmp_path / ".venv-npu-library/bin/python"
    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    marker = tmp_path / ".venv-npu-library/.installed"
    marker.write_text(hashlib.sha256(b"a==1\n").hexdigest() + "\n")
    assert interpreter("npu-library") == python
    marker.write_text(hashlib.sha256(b"a==2\n").hexdigest() + "\n")
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
    done = python("-c", attempt)
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path}/.venv-npu-library: this environment is not installed. "
        "Remedy: make npu-library\n"
    )


def test_without_the_environment_its_variants_are_blocked_and_not_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in LIBRARY:
        blocked = blocked_variant(SETTINGS.variants[name], SETTINGS)
        assert blocked is not None
        assert blocked.remedy == "make npu-library"
    decided = plan(SETTINGS)
    assert not LIBRARY & {variant for _, variant in decided.releases}
    assert {variant for _, variant in decided.builds} >= LIBRARY


def test_what_another_environment_runs_names_it_and_its_lock() -> None:
    variant = SETTINGS.variants["npu-library-int4"]
    for row in variant.devices:
        assert row_of(SETTINGS.devices[row], variant).environment == "npu-library"
    pinned = pinned_toolchain("converters.npu_library")
    assert pinned["neural-compressor (npu-library)"].startswith("3.7.")
    assert "torch" not in pinned
    runtime = pinned_toolchain("validators.check", "validators.runtimes.npu_library")
    assert runtime["openvino (npu-library)"] == "2024.4.0"
    assert runtime["numpy"] != runtime["numpy (npu-library)"]


def test_the_other_environment_s_modules_are_followed_and_import_nothing_it_lacks() -> None:
    """Trust, jinja2, snakemake and the like are not in envs/npu-library.lock."""
    assert "converters/npu_library/compilation.py" in module_files("converters.npu_library")
    files = module_files("validators.worker", "validators.runtimes.npu_library")
    lacking = ("phiforge/trust", "phiforge/release", "converters")
    assert not [file for file in files if file.startswith(lacking)]


@pytest.mark.parametrize(
    ("present", "missing"),
    [
        ((), "cmake is not on PATH"),
        (("cmake",), "a C++ compiler is not on PATH"),
        (("cmake", "c++"), "make or ninja is not on PATH"),
        (("cmake", "c++", "make"), "cmake is version 3.18"),
    ],
)
def test_a_machine_without_build_tools_learns_what_to_install(
    tmp_path: Path, present: tuple[str, ...], missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in present:
        (tmp_path / name).write_text("#!/bin/sh\necho cmake version 3.18.4\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.delenv("CXX", raising=False)
    done = python(BUILD, tmp_path / "venv", PATH=str(tmp_path))
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
    done = python("-c", attempt, pickle.dumps(Fraction(1, 3)).hex())
    assert done.stdout == "[1, 'a']\n"
    assert "PickleRefused: a pickle that names fractions.Fraction" in done.stderr
