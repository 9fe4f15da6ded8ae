"""A variant whose toolchain is missing is blocked with reason and remedy, never half-made."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phiforge import environment
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import Blocked, Convert, Recipe
from phiforge.npu_compiler import wine
from phiforge.receipts.signed_receipt import read_signed
from phiforge.release.gate import GateError, gate
from phiforge.release.status import status
from phiforge.rules import Jobs
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.plan import blocked_model, blocked_row, blocked_variant, plan, row_policies
from phiforge.settings.settings import Settings, load
from phiforge.settings.variants import Requires
from support.checkout import ROOT
from support.jobs import CONFIG, Names, check_job, run, write_job

COMPILER = {"tool": "npu_compiler", "remedy": "get a compiler"}


def settings_with(requires: dict[str, Any] | None, library: Path | None = None) -> Settings:
    """The shipped settings, `openvino-int4` requiring something; ``library``: a compiler."""
    part = {"path": str(library), "sha256": "0" * 64}
    compiler = None if library is None else {"loader": part, "compiler": part}
    settings = load({**CONFIG, "npu_compiler": compiler}, ROOT / "config")
    plain = settings.variants["openvino-int4"]
    needed = None if requires is None else Requires(**requires)
    changed = {
        plain.name: plain.model_copy(update={"requires": needed}),
        "derived": plain.model_copy(update={"name": "derived", "base": plain.name}),
    }
    return replace(settings, variants={**settings.variants, **changed})


def test_directml_in_software_is_for_small_models_where_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(CONFIG, ROOT / "config")
    device, models = settings.devices["dml-software"], settings.models
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    marker = tmp_path / ".directml/.installed"
    (tmp_path / "source.c").write_text("int main;")
    for made_of in (None, "", "no list", "0" * 64 + "  source.c\n", "0" * 64 + "  gone.c\n"):
        if made_of is not None:
            marker.parent.mkdir(exist_ok=True)
            marker.write_text(made_of)
        missing = blocked_row(device, replace(settings).tools)  # as the next run finds it
        assert missing is not None, made_of
        assert missing.remedy == "make directml"
    marker.write_text(f"{sha256_file(tmp_path / 'source.c')}  source.c\n")
    assert blocked_row(device, replace(settings).tools) is None
    assert blocked_model(device, models["phi3-tiny"]) is None
    large = blocked_model(device, models["phi-3-mini-4k"])
    assert large is not None
    assert "too slow for 3821 million parameters, it takes up to 100 million" in large.reason
    part = "phi-3-mini-4k-2-layers"
    variants = {"genai-dml-fp16", "genai-dml-int4", "genai-dml-int4-head8"}
    settings = load({**CONFIG, "models": ["phi3-tiny", "phi-3-mini-4k"]}, ROOT / "config")
    planned = Jobs(settings)
    assert {name for model, name in planned.plan.checks if model == part} == variants
    assert not any(model == part for model, _ in planned.plan.releases)
    assert "phi3-tiny-2-layers" not in dict(planned.plan.builds)
    whole = Names("phi-3-mini-4k", "genai-dml-int4", "dml-software")
    assert planned.first_layers(whole) == [
        f"artifacts/checks/{part}/genai-dml-int4/dml-software.json"
    ]
    assert planned.check(replace(whole, model=part)).blocked is None
    assert planned.fetch(Names(part)).source == {"model": "phi-3-mini-4k", "layers": 2}
    (tmp_path / ".intel-gpu").mkdir()
    shutil.copy(marker, tmp_path / ".intel-gpu")
    of_both = {name for model, name in Jobs(replace(settings)).plan.checks if model == part}
    assert of_both == variants | {
        "openvino-fp16", "openvino-int8", "openvino-int4", "openvino-int4-awq"
    }  # fmt: skip
    shutil.rmtree(tmp_path / ".intel-gpu")
    marker.unlink()
    assert part not in dict(Jobs(replace(settings)).plan.builds)


def blocked(settings: Settings, name: str = "openvino-int4") -> Blocked | None:
    return blocked_variant(settings.variants[name], settings)


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_missing_file_blocks_a_variant_and_what_is_derived_from_it(
    is_absolute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pattern = f"{tmp_path}/toolchain/*.so" if is_absolute else "toolchain/*.so"
    settings = settings_with({"files": [pattern], "remedy": "install the toolchain"})
    monkeypatch.chdir(ROOT if is_absolute else tmp_path)
    found, derived = blocked(settings), blocked(settings, "derived")
    assert found is not None and derived is not None
    assert f"{pattern} is missing" in found.reason
    assert found.remedy == "install the toolchain"
    assert "'from: openvino-int4' is blocked" in derived.reason
    assert blocked(settings, "openvino-int8") is None
    (tmp_path / "toolchain").mkdir()
    (tmp_path / "toolchain/a.so").touch()
    assert blocked(settings) is blocked(settings, "derived") is None


def test_a_compiler_that_is_not_installed_blocks_and_a_named_one_that_is_missing_is_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wine, "FOLDER", str(tmp_path / "nothing"))
    found = blocked(settings_with(COMPILER))
    assert found is not None
    assert "no npu compiler is installed" in found.reason
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing/.installed").write_text("half a rec")
    assert blocked(settings_with(COMPILER)) is not None
    library = tmp_path / "library.so"
    with pytest.raises(ConfigurationError, match=r"npu_compiler\.loader\.path.*library\.so"):
        settings_with(COMPILER, library)
    library.touch()
    assert blocked(settings_with(COMPILER, library)) is None


def test_a_variant_that_nothing_here_executes_waits_for_its_receipt(tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.touch()
    settings = settings_with(None, library)
    pair = ("phi3-tiny", "npu-blob-4000")
    assert pair in plan(settings).releases, "the compiler is asked, and its word is enough"
    blob = settings.variants["npu-blob-4000"].model_copy(update={"devices": ("npu-4000",)})
    settings = replace(settings, variants={**settings.variants, blob.name: blob})
    assert pair in plan(settings).checks
    assert pair not in plan(settings).releases
    assert pair in plan(settings, [(*pair, "npu-4000")]).releases
    assert pair not in plan(settings, [("phi-3-mini-4k", "npu-blob-4000", "npu-4000")]).releases


def test_a_blocked_conversion_writes_why_and_leaves_an_earlier_payload_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command as its rule runs it: convert, check, gate, report."""
    blocked = Blocked("no compiler", "get one")
    build, receipt = tmp_path / "build/m/v", tmp_path / "checks/m/v/npu-4000.json"
    (build / "payload").mkdir(parents=True)
    (build / "payload/SHA256SUMS").write_text("of an earlier run\n")
    write_record(build / "BUILD.json", {"model": "m", "variant": "v", "artifact_sha256": "0" * 64})

    recipe = Recipe("openvino", "openvino", "int4", None, {})
    job = write_job(tmp_path, Convert("m", "v", "M", "MIT", recipe, {}, blocked))
    done = run("convert", job, "--source", "nowhere/SOURCE.json", "--base", "--into", build)
    assert done.returncode == 0, done.stderr
    assert read_record(build / "BUILD.json") == {
        "model": "m",
        "variant": "v",
        "blocked": {"reason": "no compiler", "remedy": "get one"},
    }
    assert (build / "payload/SHA256SUMS").read_text() == "of an earlier run\n"

    check = check_job("openvino-int4-npu", "npu-4000", model="m", variant="v", blocked=blocked)
    done = run(
        "check", write_job(tmp_path, check), "--artifact", build, "--reference", "nowhere",
        "--golden", "nowhere", "--acceptance", "nowhere", "--receipt", receipt,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = read_signed(receipt)
    assert (written.verdict, written.reason, written.remedy) == (
        "blocked",
        "no compiler",
        "get one",
    )
    assert written.artifact_sha256 is None, "the earlier payload is nothing's artifact any more"

    nowhere = Path("nowhere")
    with pytest.raises(GateError, match=r"not built .no compiler"):
        gate(
            build / "BUILD.json", [receipt], "candidate", tmp_path / "verdict.json",
            golden=nowhere, reference=nowhere, acceptance=nowhere, overrides={}, rows={},
        )  # fmt: skip
    assert not (tmp_path / "verdict.json").exists()
    status([("m", "v")], tmp_path)
    assert "v: no compiler. get one" in capsys.readouterr().out


def test_a_blob_is_judged_with_its_irs_stand_ins_and_nothing_else_is() -> None:
    settings = settings_with(None)

    def judged(name: str, **changes: Any) -> dict[str, Any]:
        variant, chosen = settings.variants[name], replace(settings, **changes)
        return row_policies(variant, chosen, lambda variant, row: None)

    blob = judged("npu-blob-4000")
    assert {row: policy.base for row, policy in blob.items() if policy.base} == {
        "npu-standin": "openvino-int4-npu"
    }
    assert blob["npu-standin"].row.runtime == "openvino_npu"
    for name in ("openvino-int4", "genai-dml-int4", "openvino-int4-npu"):
        assert not any(policy.base for policy in judged(name).values()), name


def test_stable_asks_for_all_device_rows_or_for_those_that_are_named() -> None:
    settings = load({**CONFIG, "stable_rows": "npu-4000, gpu"}, ROOT / "config")

    def required(name: str, stable: Settings) -> set[str]:
        policies = row_policies(settings.variants[name], stable, lambda variant, row: None)
        return {row for row, policy in policies.items() if policy.required}

    every = replace(settings, stable_rows=())
    assert required("openvino-int4-npu", settings) == {"npu-4000"}
    assert required("openvino-int4", settings) == {"gpu"}
    assert required("genai-cpu-int4", settings) == {"cpu"}, "none of its rows is named"
    assert required("openvino-int4-npu", every) == {"npu-3720", "npu-4000", "npu-5010"}
    with pytest.raises(ConfigurationError, match="'stable_rows' names 'npu-standin'"):
        load({**CONFIG, "stable_rows": ["npu-standin"]}, ROOT / "config")
