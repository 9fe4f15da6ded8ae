"""The Debian trees of `make directml` and `make intel-gpu`: made, or named with why not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from phiforge import environment
from phiforge.environment import EnvironmentMissing, debian_tree
from support.checkout import ROOT

NAMES = ("directml", "intel-gpu")


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_that_is_not_made_of_the_sources_as_they_are_is_named_in_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    with pytest.raises(EnvironmentMissing, match=rf"not made\. Remedy: make {name}"):
        debian_tree(name)
    (tmp_path / f".{name}").mkdir()
    (tmp_path / "run.sh").touch()
    (tmp_path / f".{name}/.installed").write_text("0" * 64 + "  run.sh\n")
    with pytest.raises(
        EnvironmentMissing, match=rf"other locks or sources \(run.sh\).*make {name}"
    ):
        debian_tree(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_is_made_from_the_sources_as_they_are(name: str) -> None:
    if environment.installed_tree(name) is None:
        pytest.skip(f"needs `make {name}`")
    done = subprocess.run(
        [sys.executable, "-c", "import build, debian; print(debian.made_of(build.FILES), end='')"],
        cwd=ROOT / "envs" / name.replace("-", "_"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (ROOT / f".{name}/.installed").read_text(encoding="utf-8")
    assert debian_tree(name) == ROOT / f".{name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_without_apt_is_told_so_in_one_line(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "envs" / name.replace("-", "_") / "build.py", tmp_path / "tree"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "is missing, and the packages are Debian's. Remedy: run this on Debian" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "tree").exists()
