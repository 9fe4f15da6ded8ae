"""The command: every part of it says what it does, quickly, and works in its own checkout only."""

import resource
import subprocess
from pathlib import Path

import pytest

from phiforge.cli import COMMANDS
from support.checkout import ROOT
from support.jobs import command, run

SLOW = {"reference"}  # imports torch and transformers


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - SLOW))
def test_a_command_describes_itself(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    usage, description = done.stdout.split("\n\n")[:2]
    assert usage.startswith(f"usage: phiforge {name}")
    assert description.strip() and "main()" not in description


def test_the_table_of_commands_waits_for_nothing() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command("--help"), cwd=ROOT, capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert all(f"\n    {name}" in done.stdout for name in COMMANDS)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3


def test_the_command_works_in_no_other_checkout(tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "phiforge").mkdir(parents=True)
    (other / "phiforge/cli.py").touch()
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from phiforge.cli import main; "
    for folder in (other, other / "phiforge"):
        done = subprocess.run(
            [command("")[0], "-c", program + "main(['status', 'm/v'])"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {folder}: this folder is in another checkout than")
        assert f"expected {ROOT}, found {other}" in line


def test_the_configuration_is_taken_as_snakemake_takes_it(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("variants: [genai-cpu-int4]\nversion: 0.9.0\n")
    root = ("--root", tmp_path)
    shown = run("status", *root, "--configfile", tmp_path / "lab.yaml", COLUMNS="200").stdout
    assert "genai-cpu-int4" in shown and "openvino-int4" not in shown
    shown = run("status", *root, "--config", "variants=openvino-int4,openvino-fp16").stdout
    assert "openvino-fp16" in shown and "genai-cpu-int4" not in shown
    done = run("status", *root, "--config", "modells=x")
    assert done.returncode == 1
    assert done.stderr.startswith("error: config/config.yaml or --config: unknown key 'modells'")
    done = run("status", *root, "--config", "models")
    assert done.returncode == 1 and done.stderr.startswith("error: --config: ")


def test_a_revocation_takes_its_key_from_the_configuration_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("signing: {key: /no/such.pem}\n")
    revoke = ("revoke", "m/v", "0.1.0", "--reason", "why", "--root", tmp_path)
    for options in (("--configfile", tmp_path / "lab.yaml"), ("--config", "signing={key: /no/x}")):
        done = run(*revoke, *options)
        assert done.returncode == 1 and "key 'signing.key' names /no/" in done.stderr
