"""Models from elsewhere: what fails its gates or is converted wrongly is not released.

A good one is released by the blocks of docs/adding.md (tests/docs/test_pages.py).
"""

import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest
import yaml

from phiforge.artifact.record import read_record
from support.bench import copied
from support.checkout import ROOT, Checkout, make_checkout
from support.jobs import check_job
from support.model_files import model_file, record_checksums
from support.onnx_genai_builds import twin_of_the_head
from support.parity import changed_model
from support.second_model import write_second_model
from validators.acceptance import load_gates
from validators.evaluation import evaluate
from validators.golden import load_golden
from validators.isolation import run_in_subprocess
from validators.reference_tree import load_reference

TINY = ROOT / "models/phi3-tiny"


def write_model(folder: Path, name: str, **changes: object) -> Path:
    """A model folder beside its YAML file, from phi3-tiny's files; returns the YAML file."""
    weights = folder / "weights"
    weights.mkdir(parents=True)
    for line in (TINY / "SHA256SUMS").read_text().splitlines():
        shutil.copy(TINY / line[66:], weights / line[66:])
    shutil.copy(TINY / "golden.yaml", folder / "golden.yaml")
    record_checksums(weights)
    return model_file(folder, name, **changes)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return make_checkout(tmp_path_factory.mktemp("outside") / "phiforge")


def test_one_failed_variant_leaves_the_others_and_is_named(
    checkout: Checkout, tmp_path: Path
) -> None:
    """A gate no INT4 can meet: genai-cpu-int4 fails, genai-dml-fp16 is released all the same.

    So does a model whose weights are not there, and the other is built all the same.
    """
    write_model(tmp_path / "strict", "strict")
    (tmp_path / "absent/weights").mkdir(parents=True)
    (tmp_path / "absent/weights/SHA256SUMS").write_text(f"{'0' * 64}  config.json\n")
    model_file(tmp_path / "absent", "absent", golden=str(TINY / "golden.yaml"))
    gates = checkout.folder / "config/acceptance.yaml"
    document = yaml.safe_load(gates.read_text())
    gate = {"worst_honest": 0.1, "mildest_sabotage": 2.0, "gate": 0.5}
    document["int4"]["perplexity_ratio"] = gate
    gates.unlink()
    gates.write_text(yaml.safe_dump(document))
    config = ["--config", f"model_files={tmp_path}/*/model.yaml", "models=strict,ab*t"]
    config += ["variants=genai-dml-fp16,genai-cpu-int4"]
    done = checkout.snakemake("--cores", "4", "all", *config, check=False)
    shutil.copy(ROOT / "config/acceptance.yaml", gates)
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "Traceback" not in output
    assert "strict genai-cpu-int4 is not released to candidate" in output
    assert "perplexity ratio is" in output
    releases = checkout.folder / "artifacts/release/strict"
    assert (releases / "genai-dml-fp16/MANIFEST.json").is_file()
    assert not (releases / "genai-cpu-int4").exists()
    receipt = checkout.folder / "artifacts/checks/strict/genai-cpu-int4/cpu.json"
    assert json.loads(receipt.read_text())["verdict"] == "failed"
    assert "fetch absent: error: " in output
    again = checkout.run(sys.executable, "-m", "phiforge", "status", *config).stdout
    assert again.strip() and again in done.stdout, "the table of the run, without a run"


def test_another_trained_model_is_released_in_int4_with_no_gate_of_its_own(
    checkout: Checkout, tmp_path: Path
) -> None:
    """Of other depth, width and window. What rounding costs it is simulated with its own source."""
    file = write_second_model(tmp_path)
    variants = ["openvino-int4-awq", "genai-dml-int4", "genai-cpu-int4"]
    options = ["--config", f"model_files={file}", "models=second", f"variants={','.join(variants)}"]
    checkout.snakemake("--cores", "4", "all", *options)
    artifacts = checkout.folder / "artifacts"
    simulated = read_record(artifacts / "reference/second/REFERENCE.json")["simulated"]
    for variant in variants:
        assert (artifacts / "release/second" / variant / "MANIFEST.json").is_file()
        row = "dml-standin" if "dml" in variant else "cpu"
        receipt = read_record(artifacts / f"checks/second/{variant}/{row}.json")
        metrics, thresholds = receipt["metrics"], receipt["thresholds"]
        gate = 4 * simulated["bfloat16"]["answers_mean_kl"] if "genai" in variant else 1e-8
        assert thresholds["execution_kl"] == pytest.approx(gate, rel=0.01)
        assert metrics["execution_kl"] < thresholds["execution_kl"] / 2
        # what is lost is what the weights cost, not what was done with them
        assert metrics["mean_kl"] == pytest.approx(metrics["weights_kl"], rel=0.1)
    built = artifacts / "build/second/genai-cpu-int4/payload"
    for window in (64, 32, 96, -1):
        found = answers_with(window, built, artifacts / "reference/second", tmp_path)
        assert ("wrong-answer" in found) if window != 64 else not found, (window, found)


def answers_with(window: int, built: Path, reference: Path, folder: Path) -> set[str]:
    """What fails by the answers alone, as on a lab host, which has no source."""
    payload = copied(built, folder / str(window)) / "payload"
    model = onnx.load(payload / "model.onnx", load_external_data=False)
    for node in model.graph.node:
        for entry in node.attribute:
            if entry.name == "local_window_size":
                entry.i = window
    onnx.save(model, payload / "model.onnx")
    row, golden = check_job("genai-cpu-int4", "cpu").row, folder / "golden.yaml"
    run = run_in_subprocess(payload, row.runtime, row.settings, reference, golden, time_limit_s=600)
    simulated = read_record(reference / "REFERENCE.json")["simulated"]
    gates = load_gates(ROOT / "config/acceptance.yaml", "int4", {}, simulated)
    judged = evaluate(
        run, load_reference(reference), load_golden(golden), precision="int4", executor="CPU",
        gates=gates,
    )  # fmt: skip
    return {failure.name for failure in judged.failures}


def test_a_model_that_an_official_tool_converts_wrongly_is_not_released(
    checkout: Checkout, tmp_path: Path
) -> None:
    """The model builder ends with 0 and a wrong graph; nncf's INT8 of the same model is right."""
    file = write_model(tmp_path, "twin")
    weights = tmp_path / "weights"
    changed_model(tmp_path / "changed", twin_of_the_head, layers=16)
    for path in (tmp_path / "changed").iterdir():
        shutil.copy(path, weights / path.name)
    record_checksums(weights)
    right = "artifacts/checks/twin/openvino-int8/cpu.json"
    options = ["--config", f"model_files={file}", "models=twin", "variants=genai-dml-fp16"]
    done = checkout.snakemake("--cores", "4", "all", right, *options, check=False)
    assert done.returncode != 0
    output = " ".join((done.stdout + done.stderr).split())
    assert "twin genai-dml-fp16 is not released to candidate" in output
    assert not (checkout.folder / "artifacts/release/twin/genai-dml-fp16").exists()
    assert json.loads((checkout.folder / right).read_text())["verdict"] == "passed"
