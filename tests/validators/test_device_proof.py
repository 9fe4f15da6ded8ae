"""What a runtime observes of the device: complete where it ran, refused where it did not run."""

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest

from phiforge.artifact.manifest import verify
from phiforge.artifact.record import read_record
from support.checkout import ROOT, Checkout
from support.jobs import SETTINGS
from validators.contract import ArtifactError, CheckError, ExecutionEvidence, Runtime
from validators.evaluation import judge_device
from validators.isolation import run_in_subprocess
from validators.ort_profile import executor, proofs
from validators.reference_tree import Reference
from validators.run_result import PromptResult, RunResult
from validators.runtimes.onnx_genai import ProfiledSession
from validators.runtimes.openvino_npu import NPU_PROFILE, NpuRuntime, open_runtime
from validators.worker import add_performance

PROMPT = "<|user|>What is the capital of Japan?<|end|><|assistant|>"
ANSWER = "The capital of Japan is Tokyo."
HERE = {
    "openvino": ("openvino-int4", {"device": "CPU"}),
    "openvino_optimum": ("openvino-fp16", {"device": "CPU"}),
    "openvino_npu": ("openvino-int4-npu", {"npuw_devices": "CPU"}),
    "onnx_genai": ("genai-dml-int4", {"provider": "cpu"}),
}


def exercised(runtime: Runtime) -> ExecutionEvidence:
    """What executed one right answer and two scores."""
    asked = runtime.encode(PROMPT)
    answer = runtime.generate(asked, 16)
    assert answer.text.strip() == ANSWER
    assert answer.first_token_s is not None
    assert 0 < answer.first_token_s < answer.total_s
    runtime.score([*asked, *answer.token_ids], [len(asked) - 1, len(asked)])
    return runtime.executed_on()


def opened(module: str, payload: Path, settings: Mapping[str, Any]) -> Runtime:
    runtime: Runtime = importlib.import_module(f"validators.runtimes.{module}").open_runtime(
        payload, settings=settings
    )
    return runtime


def names(evidence: ExecutionEvidence, device: str) -> set[str]:
    return {failure.name for failure in judge_device(evidence, device)}


@pytest.mark.parametrize("module", HERE)
def test_the_evidence_of_a_runtime_is_complete_and_claims_no_other_device(
    built: Callable[[str], Path], module: str
) -> None:
    variant, settings = HERE[module]
    evidence = exercised(opened(module, built(variant), settings))
    assert judge_device(evidence, "CPU") == []
    assert len(evidence.proof) >= 2
    assert all(one.observed for one in evidence.proof)
    assert evidence.details["cpu"]["name"]
    assert evidence.details["cpu"]["instruction_sets"]
    json.dumps(asdict(evidence))
    for device in ("GPU", "NPU", "DML", "CUDA"):
        assert names(evidence, device) == {"wrong-device"}
    unproven = replace(evidence, device="NPU", proof=())
    assert names(unproven, "NPU") == {"unproven-device"}


def test_every_runtime_is_tried() -> None:
    modules = {path.stem for path in (ROOT / "validators/runtimes").glob("[a-z]*.py")}
    # In tests of their own; npu_compiler executes nothing.
    elsewhere = {
        "npu_library",
        "npu_blob",
        "npu_compiler",
        "onnx_genai_directml",
        "openvino_gpu_software",
    }
    assert modules - elsewhere == set(HERE)


def test_the_pipelines_receipts_show_every_observation(pipeline: Checkout) -> None:
    receipts = [read_record(path) for path in pipeline.receipts()]
    ran = [receipt for receipt in receipts if receipt["verdict"] == "passed"]
    assert ran
    for receipt in ran:
        proof = receipt["executed_on"]["proof"]
        assert proof
        assert all(one["failure"] is None for one in proof)
        measured = receipt["performance"]
        assert measured["runs"] >= 8
        for name in ("first_token_ms", "tokens_per_s"):
            assert 0 < measured[name]["p50"] <= measured[name]["p90"] <= measured[name]["max"]
        on_its_own = receipt["runtime"] not in ("openvino_npu", "openvino_optimum")
        assert measured["numerics"] == ("default" if on_its_own else "pinned")


@pytest.mark.parametrize("variant", ["genai-dml-int4", "genai-dml-fp16", "genai-cuda-int4"])
def test_a_graph_that_ran_on_the_cpu_is_no_proof_of_a_gpu(
    built: Callable[[str], Path], variant: str
) -> None:
    payload = built(variant)
    before = verify(payload)
    ran = ProfiledSession(payload, "cpu").close([1, 5, 9, 12])
    assert verify(payload) == before
    assert executor(ran) == "CPU"
    graph = onnx.load(str(payload / "model.onnx"), load_external_data=False).graph
    operators = {node.op_type for node in graph.node}
    assert [one.failure for one in proofs(ran, "CPU", operators)] == [None, None]
    device = "CUDA" if "cuda" in variant else "DML"
    offered = ExecutionEvidence(device, "device_type says so", proofs(ran, device, operators))
    failures = judge_device(offered, device)
    assert [failure.name for failure in failures] == ["fell-back", "fell-back"]
    assert "CPUExecutionProvider ran MatMul" in failures[0].what
    assert "CPUExecutionProvider ran GroupQueryAttention" in failures[1].what


def test_a_device_list_that_falls_back_silently_is_seen_in_the_compiled_model(
    built: Callable[[str], Path],
) -> None:
    class Lenient(NpuRuntime):
        """The sabotage: a pipeline opened past the setting's own refusal."""

    runtime = Lenient(built("openvino-int4-npu"), "NPU,CPU", extra={"NPUW_ONLINE_PIPELINE": "NONE"})
    assert runtime.generate(runtime.encode(PROMPT), 16).text == ANSWER  # it runs, on the CPU
    evidence = runtime.executed_on()
    assert evidence.device == "unknown"
    assert "wrong-device" in names(evidence, "NPU")


def test_a_cpu_that_works_raises_no_counter_of_an_npu(built: Callable[[str], Path]) -> None:
    runtime = NpuRuntime(built("openvino-int4-npu"), "CPU")
    exercised(runtime)
    counters = runtime.counters.proof()
    assert [one.what.rpartition(" while ")[2] for one in counters] == [
        "it answered",
        "it was scored",
    ]
    assert {one.failure for one in counters} == {"unproven-device"}
    claimed = replace(runtime.executed_on(), device="NPU", proof=counters)
    assert names(claimed, "NPU") == {"unproven-device"}


@pytest.mark.parametrize(
    "option",
    [
        {"NPUW_DEVICES": "NPU,CPU"},
        {"NPUW_DEVICES": "NPU"},
        {"DEVICE_PROPERTIES": {"NPU": {"NPUW_DEVICES": "CPU"}}},
        {"++GENERATE_CONFIG": {"NPUW_DEVICES": "CPU"}},
        {"PREFILL_CONFIG": {"NPUW_DEVICES": "CPU"}},
        {"NPUW_SUBMODEL_DEVICE": "0:CPU"},
        {"BLOB_PATH": "model.blob"},
        {"MAX_PROMPT_LEN": {"NPUW_DEVICES": "CPU"}},
    ],
    ids=lambda option: next(iter(option)),
)
def test_an_artifact_may_not_choose_its_device(
    built: Callable[[str], Path], tmp_path: Path, option: dict[str, Any]
) -> None:
    profile = read_record(built("openvino-int4-npu") / NPU_PROFILE)
    profile["pipeline_options"] = {**profile["pipeline_options"], **option}
    (tmp_path / NPU_PROFILE).write_text(json.dumps(profile), encoding="utf-8")
    with pytest.raises(ArtifactError, match=next(iter(option)).replace("+", r"\+")) as refused:
        open_runtime(tmp_path, settings={"npuw_devices": "NPU"})
    assert refused.value.name == "forbidden-option"


@pytest.mark.parametrize(
    ("variant", "row", "said"),
    [
        ("openvino-int4-npu", "npu-4000", "there is no NPU here"),
        ("genai-dml-int4", "dml", None),
        ("genai-cuda-int4", "cuda", None),
    ],
)
def test_a_device_row_does_not_pass_here_whatever_the_environment_says(
    pipeline: Checkout,
    built: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    variant: str,
    row: str,
    said: str | None,
) -> None:
    if SETTINGS.devices[row].kind != "device":
        pytest.fail(f"row {row} is no device row")
    for name in ("NPUW_DEVICES", "OPENVINO_NPUW_DEVICES"):
        monkeypatch.setenv(name, "CPU")
    runtime = SETTINGS.devices[row].runtimes[SETTINGS.variants[variant].format]
    run = partial(
        run_in_subprocess,
        built(variant),
        runtime.module,
        runtime.settings,
        pipeline.folder / "artifacts/reference/phi3-tiny",
        ROOT / "models/phi3-tiny/golden.yaml",
        time_limit_s=120,
    )
    if said:  # no verdict at all
        with pytest.raises(CheckError):
            run()
        assert said in capfd.readouterr().err
    else:
        seen = run()
        assert seen.evidence is None
        assert seen.failure is not None
        assert seen.failure.name == "runtime-error"


def test_speed_is_measured_with_the_numerics_of_users(
    built: Callable[[str], Path], reference: Reference, tmp_path: Path
) -> None:
    module = importlib.import_module("validators.runtimes.openvino")
    asked = [prompt for prompt in reference.prompts if len(prompt.prompt_ids) < 64][:3]
    runtime = module.open_runtime(built("openvino-int4"), settings={"device": "CPU"})
    answers = tuple(
        PromptResult(prompt.id, generation=runtime.generate(prompt.prompt_ids, 8))
        for prompt in asked
    )
    seen = RunResult(answers, runtime.executed_on(), {})

    def performance(observation: RunResult) -> dict[str, Any]:
        payload, doing = built("openvino-int4"), tmp_path / "DOING"
        done = add_performance(module, observation, payload, {"device": "CPU"}, reference, doing)
        assert done.failure is None
        assert done.performance is not None
        return dict(done.performance)

    measured = performance(seen)
    assert (measured["numerics"], measured["runs"]) == ("default", len(asked) - 1)
    assert measured["new_tokens"]["max"] > 8, "answered anew"
    assert seen.evidence is not None
    reused = performance(replace(seen, evidence=replace(seen.evidence, pinned={})))
    assert reused["new_tokens"]["max"] <= 8, "the check's own answers"
