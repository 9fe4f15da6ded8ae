"""A variant whose toolchain is not here is blocked with reason and remedy, never half-made."""

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.record import read_record, write_record
from phiforge.jobs import Blocked, Convert, Recipe
from phiforge.receipts.signed_receipt import read_signed
from phiforge.release.gate import GateError, gate
from phiforge.release.report import report
from phiforge.settings.documents import ConfigurationError, read_yaml
from phiforge.settings.plan import blocked_variant, plan
from phiforge.settings.settings import Settings, load
from phiforge.settings.variants import Requires
from support.checkout import ROOT
from support.jobs import check_job, run, write_job

REQUIRES = {"files": ["toolchain/*.so"], "remedy": "install the toolchain"}


def settings_with(requires: dict[str, Any] | None, **overrides: Any) -> Settings:
    """The shipped settings, `openvino-int4` requiring something."""
    settings = load(read_yaml(ROOT / "config/config.yaml") | overrides, ROOT / "config")
    variants = dict(settings.variants)
    needed = None if requires is None else Requires(**requires)
    plain = variants["openvino-int4"]
    variants[plain.name] = plain.model_copy(update={"requires": needed})
    variants["derived"] = plain.model_copy(update={"name": "derived", "base": plain.name})
    return replace(settings, variants=variants)


def blocked(settings: Settings, name: str) -> Blocked:
    """Why a variant cannot be made here."""
    found = blocked_variant(settings.variants[name], settings)
    assert found is not None
    return found


def test_a_missing_file_blocks_a_variant_and_what_is_derived_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with(REQUIRES)
    monkeypatch.chdir(tmp_path)
    found = blocked(settings, "openvino-int4")
    assert "toolchain/*.so is missing" in found.reason
    assert found.remedy == "install the toolchain"
    assert "'from: openvino-int4' is blocked" in blocked(settings, "derived").reason
    assert blocked_variant(settings.variants["openvino-int8"], settings) is None
    (tmp_path / "toolchain").mkdir()
    (tmp_path / "toolchain/a.so").touch()
    assert blocked_variant(settings.variants["derived"], settings) is None


def test_an_absolute_pattern_is_looked_up_as_it_stands(tmp_path: Path) -> None:
    for name, expected in (("there", True), ("elsewhere", False)):
        (tmp_path / "there").touch()
        settings = settings_with({"files": [str(tmp_path / name)], "remedy": "put it there"})
        found = blocked_variant(settings.variants["openvino-int4"], settings)
        assert (found is None) is expected


def test_a_configuration_key_that_is_null_blocks(tmp_path: Path) -> None:
    requires = {"config": "npu_compiler", "remedy": "get the libraries"}
    settings = settings_with(requires)
    assert "'npu_compiler' is null" in blocked(settings, "openvino-int4").reason
    library = tmp_path / "library.so"
    library.touch()
    one = {"path": str(library), "sha256": "0" * 64}
    settings = settings_with(requires, npu_compiler={"loader": one, "compiler": one})
    assert blocked_variant(settings.variants["openvino-int4"], settings) is None


def test_a_configured_library_that_is_not_there_is_a_mistake_not_a_block(tmp_path: Path) -> None:
    one = {"path": str(tmp_path / "nope.so"), "sha256": "0" * 64}
    with pytest.raises(ConfigurationError, match=r"npu_compiler\.loader\.path.*nope\.so"):
        settings_with(None, npu_compiler={"loader": one, "compiler": one})


def test_a_blocked_variant_is_checked_and_not_released() -> None:
    requires = {"config": "npu_compiler", "remedy": "get the libraries"}
    decided = plan(settings_with(requires))
    assert ("phi3-tiny", "openvino-int4") in decided.checks
    assert ("phi3-tiny", "openvino-int4") not in decided.releases
    assert ("phi3-tiny", "openvino-int8") in decided.releases


def test_a_variant_that_nothing_here_executes_waits_for_its_receipt(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.touch()
    one = {"path": str(library), "sha256": "0" * 64}
    settings = settings_with(None, npu_compiler={"loader": one, "compiler": one})
    pair = ("phi3-tiny", "npu-blob-4000")
    assert pair in plan(settings).checks
    assert pair not in plan(settings).releases
    assert pair in plan(settings, [(*pair, "npu-4000")]).releases
    assert pair not in plan(settings, [("phi-3-mini-4k", "npu-blob-4000", "npu-4000")]).releases


NO_COMPILER = Blocked("no compiler", "get one")


def block(into: Path) -> subprocess.CompletedProcess[str]:
    """Run the conversion of a blocked variant as the rule does."""
    recipe = Recipe("openvino", "openvino", "int4", None, {})
    job = Convert("m", "v", "M", "MIT", recipe, {}, NO_COMPILER)
    path = write_job(into / "jobs", job)
    return run("convert", path, "--source", "nowhere/SOURCE.json", "--base", "--into", into)


def check(build: Path, receipt: Path) -> subprocess.CompletedProcess[str]:
    """Run the check of a blocked variant as the rule does."""
    job = check_job("openvino-int4-npu", "npu", model="m", variant="v", blocked=NO_COMPILER)
    return run(
        "check", write_job(build / "jobs", job), "--artifact", build, "--reference", "nowhere",
        "--golden", "nowhere", "--acceptance", "nowhere", "--receipt", receipt,
    )  # fmt: skip


def test_a_blocked_conversion_writes_why_and_leaves_an_earlier_payload_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = tmp_path / "build/m/v"
    (build / "payload").mkdir(parents=True)
    (build / "payload/SHA256SUMS").write_text("of an earlier run\n")
    write_record(build / "BUILD.json", {"model": "m", "variant": "v", "artifact_sha256": "0" * 64})
    assert block(build).returncode == 0
    assert read_record(build / "BUILD.json") == {
        "model": "m",
        "variant": "v",
        "blocked": {"reason": "no compiler", "remedy": "get one"},
    }
    assert (build / "payload/SHA256SUMS").read_text() == "of an earlier run\n"
    receipt = tmp_path / "checks/m/v/npu.json"
    done = check(build, receipt)
    assert done.returncode == 0, done.stderr
    told = read_record(receipt)
    assert read_signed(receipt).verdict == "blocked"
    assert (told["verdict"], told["reason"], told["remedy"]) == (
        "blocked",
        "no compiler",
        "get one",
    )
    assert told["artifact_sha256"] is None, "the earlier payload is nothing's artifact any more"
    with pytest.raises(GateError, match=r"not built .no compiler"):
        gate(
            build / "BUILD.json",
            [receipt],
            "candidate",
            tmp_path / "verdict.json",
            golden=Path("nowhere"),
            reference=Path("nowhere"),
            acceptance=Path("nowhere"),
            overrides={},
            rows={},
        )
    assert not (tmp_path / "verdict.json").exists()
    report([("m", "v")], tmp_path)
    shown = capsys.readouterr().out
    assert "blocked" in shown
    assert "v: no compiler. get one" in shown
