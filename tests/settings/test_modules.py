"""What Snakemake cannot see by itself: imported modules and pinned versions."""

import hashlib
import json
import shutil
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from phiforge.artifact.lock_file import read_lock
from phiforge.settings.device_locks import CUT
from phiforge.settings.modules import ROOT, locked, module_files
from support.jobs import python
from validators.code_digest import check_modules, validator_digest

HEAVY = {
    "boto3", "cyclonedx", "jinja2", "model_signing", "numpy", "openvino", "pydantic", "safetensors",
    "sigstore", "snakemake", "tokenizers", "torch", "transformers",
}  # fmt: skip


def test_locked_versions_are_read_from_the_lock() -> None:
    assert locked()["openvino"].version.startswith("2026.")
    assert "torchvision" not in locked()
    assert "openvino-telemetry" not in locked()


def test_a_validators_digest_is_the_same_in_a_kit_and_follows_its_code(tmp_path: Path) -> None:
    for name in module_files(*check_modules("openvino_npu")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)

    def there() -> str:
        ask = "from validators.code_digest import validator_digest as d; print(d('openvino_npu'))"
        return printed(ask, tmp_path)

    here = validator_digest("openvino_npu")
    assert there() == here != validator_digest("onnx_genai")
    with (tmp_path / "validators/metrics.py").open("a") as stream:
        stream.write("# gentler\n")
    assert there() != here


RECORD = hashlib.sha256((ROOT / "phiforge/artifact/record.py").read_bytes()).hexdigest()
OF_WRONG_TYPES = json.dumps({RECORD: {"imports": 4, "toolchain": ["a"], "environment": {}}})


@pytest.mark.parametrize(
    "cache", ["{}", "[]", "not JSON", '{"digest": {"imports": []}}', OF_WRONG_TYPES]
)
def test_parsed_modules_are_kept_for_the_next_process(tmp_path: Path, cache: str) -> None:
    for name in module_files("phiforge.settings.modules"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    kept = tmp_path / ".snakemake/phiforge-modules.json"
    kept.parent.mkdir()
    kept.write_text(cache)

    def parses() -> int:
        ask = (
            "import ast; calls = []; parse = ast.parse\n"
            "ast.parse = lambda text: calls.append(text) or parse(text)\n"
            "from phiforge.settings.modules import module_files\n"
            "assert 'phiforge/errors.py' in module_files('phiforge.artifact.record')\n"
            "print(len(calls))"
        )
        return int(printed(ask, tmp_path))

    assert parses() > 0
    assert parses() == 0
    with (tmp_path / "phiforge/artifact/record.py").open("a") as stream:
        stream.write("# longer\n")
    assert parses() == 1


def test_what_a_check_imports_is_in_every_device_s_lock() -> None:
    """But for the runtime itself, which `validators.worker` imports by name."""
    code = (
        "import validators.check, validators.run_check, validators.worker, phiforge.trust.new_key"
    )
    distributions = packages_distributions()
    needed = {
        distribution.lower()
        for package in imported(code)
        for distribution in distributions.get(package, [])
    }
    for name in CUT:
        locked = read_lock(ROOT / "envs" / f"{name}.lock")
        assert needed - locked.keys() <= {"phiforge", "setuptools"}


@pytest.mark.parametrize(
    ("job", "not_needed"),
    [
        (
            "import phiforge.remote.check",
            HEAVY | {"asyncssh", "cryptography", "google", "jsonschema", "yaml"},
        ),
        ("import phiforge.cli", HEAVY | {"cryptography", "google", "jsonschema", "rich", "yaml"}),
        ("import phiforge.release.status", HEAVY - {"pydantic"} | {"cryptography", "google"}),
        ("import phiforge.release.index", HEAVY - {"pydantic"} | {"cryptography", "google"}),
        ("import phiforge.release.promotion", HEAVY),
        ("import phiforge.reproduce.attest", HEAVY),
        ("import phiforge.release.command", HEAVY - {"cyclonedx"}),
        (
            "import phiforge.sources.fetch",
            HEAVY - {"safetensors"} | {"huggingface_hub", "jsonschema"},
        ),
        ("import converters.convert", HEAVY | {"jsonschema", "yaml"}),
    ],
)
def test_a_small_job_does_not_wait_for_what_it_does_not_use(job: str, not_needed: set[str]) -> None:
    """A run starts dozens of them."""
    assert imported(job) & not_needed == set()


def imported(code: str) -> set[str]:
    """The packages that a new process has imported after ``code``."""
    ask = f"import sys; {code}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    return set(printed(ask).split())


def printed(code: str, folder: Path = ROOT) -> str:
    """What a new process prints that runs ``code`` in ``folder``."""
    done = python("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
