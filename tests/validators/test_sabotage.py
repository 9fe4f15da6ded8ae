"""Broken artifacts in the real check: each is caught, by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.sabotage import other_weights, rope_base, swap_layers, zero_layer
from converters.openvino import convert
from phiforge.artifact.record import read_record
from support.bench import SOURCE, Bench, reseal
from support.broken import Broken, Edit, files, ignore_graph_mask, in_detokenizer, replaced, weights
from support.checkout import ROOT
from support.jobs import check_job
from validators.acceptance import load_gates
from validators.evaluation import evaluate
from validators.execution import own_predictions
from validators.golden import load_golden
from validators.isolation import run_in_subprocess
from validators.reference_tree import load_reference


def unasked(bench: Bench) -> tuple[int, int]:
    """Two words of the vocabulary that no golden prompt and no answer holds."""
    asked = {
        number
        for prompt in read_record(bench.reference / "REFERENCE.json")["prompts"]
        for number in (*prompt["prompt_ids"], *prompt["answer_ids"])
    }
    tokenizer = json.loads((bench.reference / "tokenizer.json").read_text(encoding="utf-8"))
    free = [
        number
        for word, number in tokenizer["model"]["vocab"].items()
        if word.startswith("\u2581") and word[1:].isalpha() and number not in asked
    ]
    return free[10], free[200]


def exchange_in_tokenizer(first: int, second: int) -> Edit:
    """In ``tokenizer.json``, which ONNX Runtime GenAI reads."""

    def edit(payload: Path) -> None:
        path = payload / "tokenizer.json"
        tokenizer = json.loads(path.read_text(encoding="utf-8"))
        vocabulary = tokenizer["model"]["vocab"]
        names = {number: word for word, number in vocabulary.items()}
        vocabulary[names[first]], vocabulary[names[second]] = second, first
        path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        ("dml-standin", weights("genai-dml-int4", other_weights)),
        ("cpu", weights("openvino-int4", zero_layer(3))),
        ("cpu", weights("openvino-fp16", swap_layers(4, 5))),
    ],
    ids=["another's weights", "a layer zeroed", "two layers swapped"],
)
def test_wrong_weights_fail_by_what_they_answer(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path, row: str, broken: Broken
) -> None:
    """Where the source is not at hand, and its receipt says so."""
    elsewhere = replace(bench, source=None)
    receipt = elsewhere.receipt(broken.variant, row, broken.made(built, tmp_path))
    found = {failure["name"] for failure in receipt["failures"]}
    assert {"mean-kl", "max-kl"} <= found, found
    assert "weights-not-held" in {note["name"] for note in receipt["lint"]}


def test_wrong_weights_are_named_before_they_answer(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    broken = weights("genai-dml-int4", zero_layer(3))
    receipt = bench.receipt(broken.variant, "dml-standin", broken.made(built, tmp_path))
    assert {failure["name"] for failure in receipt["failures"]} == {"other-scales"}
    assert receipt["executed_on"] is None


def test_two_exchanged_ids_are_named(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """No golden prompt and no answer holds either of the two."""
    artifact = files("genai-cpu-int4", exchange_in_tokenizer(*unasked(bench))).made(built, tmp_path)
    found = bench.failures("genai-cpu-int4", "cpu", artifact)
    # The lint of files sees other bytes than the source's as well.
    assert found == ["other-files", "permuted-token-ids"]


def test_another_use_that_goes_wrong_fails_the_check(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """A mask that is ignored; without the source's lint, the check goes on to the end."""
    broken = files("genai-cpu-int4", ignore_graph_mask)
    elsewhere = replace(bench, source=None)
    receipt = elsewhere.receipt("genai-cpu-int4", "cpu", broken.made(built, tmp_path))
    assert [failure["name"] for failure in receipt["failures"]] == ["wrong-batch"]
    assert all(entry["passed"] for entry in receipt["golden"])


def test_a_runtimes_own_text_is_the_sources(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """Asked without the lint, which has compared the tokenizer's bytes."""
    payload = files("openvino-int4", in_detokenizer(b"Santiago", b"xxxxxxxx")).made(built, tmp_path)
    seen = run_in_subprocess(
        payload / "payload", "openvino", {"device": "CPU"}, bench.reference, bench.golden,
        time_limit_s=600,
    )  # fmt: skip
    assert {finding.name for finding in seen.findings} == {"wrong-detokenizer"}


@pytest.mark.parametrize(
    ("variant", "row", "base"),
    [("openvino-int4-awq", "cpu", 11_000), ("genai-dml-int4", "dml-standin", 50_000)],
)
def test_what_is_computed_with_the_right_weights_is_judged_by_them(
    bench: Bench,
    built: Callable[[str], Path],
    tmp_path: Path,
    variant: str,
    row: str,
    base: float,
) -> None:
    """Another base of RoPE: no weight is other than it was."""
    recipe, runtime = asdict(check_job(variant, row).recipe), check_job(variant, row).row
    reference, golden = load_reference(bench.reference), load_golden(bench.golden)
    broken = weights(variant, rope_base(base)).made(built, tmp_path) / "payload"
    simulated = read_record(bench.reference / "REFERENCE.json")["simulated"]
    gates = load_gates(ROOT / "config/acceptance.yaml", "int4", {}, simulated)
    for payload, expected in ((built(variant), set()), (broken, {"execution-kl"})):
        own = own_predictions(payload, recipe, SOURCE, bench.reference)
        assert own is not None
        run = run_in_subprocess(
            payload, runtime.runtime, runtime.settings, bench.reference, bench.golden,
            time_limit_s=600,
        )  # fmt: skip
        assert run.evidence is not None
        judged_by = gates.of_run(held=True, pinned=run.evidence.pinned)
        found = evaluate(
            run, reference, golden, precision="int4", executor="CPU", gates=judged_by, own=own
        )
        names = {failure.name for failure in found.failures}
        assert bool(names) == bool(expected) and expected <= names, found.metrics


def test_asymmetric_int4_offered_as_ready_for_the_npu_is_named(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """A real one, made by nncf; its own metadata is edited to say that it is symmetric."""
    payload = tmp_path / "build/payload"
    payload.mkdir(parents=True)
    options = {"weight_format": "int4", "symmetric": False, "group_size": 128, "ratio": 1.0}
    convert(SOURCE, payload, options=options, base=built("openvino-fp16"))
    shutil.copy(built("openvino-int4-npu") / "npu-profile.json", payload)
    shutil.copy(SOURCE / "LICENSE", payload)
    replaced("openvino_model.xml", "int4_asym", "int4_sym")(payload)
    reseal(payload)
    receipt = bench.receipt("openvino-int4-npu", "npu-standin", payload.parent)
    assert receipt["verdict"] == "failed"
    assert [failure["name"] for failure in receipt["failures"]] == ["asymmetric-weights"]
    assert "the NPU's compiler aborts" in receipt["reason"]
    assert receipt["executed_on"] is None
