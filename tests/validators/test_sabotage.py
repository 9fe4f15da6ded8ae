"""Broken artifacts in the real check: each is caught, by name."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.sabotage import other_weights, rope_base, swap_layers, zero_layer
from converters.openvino import convert
from phiforge.artifact.record import read_record
from support.bench import SOURCE, Bench, reseal
from support.broken import Broken, Edit, files, replaced, weights
from support.checkout import ROOT
from support.jobs import check_job
from validators.acceptance import load_gates
from validators.evaluation import evaluate
from validators.execution import own_predictions
from validators.golden import load_golden
from validators.isolation import run_in_subprocess
from validators.lint.openvino_ir import read_ir
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


def exchange_in_ir(name: str, first: int, second: int) -> Edit:
    """In the vocabulary of a tokenizer's IR: where each word begins and ends in one string."""

    def edit(payload: Path) -> None:
        constants = read_ir(payload / f"{name}.xml").constants
        strings = [one for one in constants if one.type == "u8"]
        words = constants.index(max(strings, key=lambda one: one.size))
        data = bytearray((payload / f"{name}.bin").read_bytes())
        for one in constants[words - 2 : words]:
            ends = np.frombuffer(data, dtype=np.int32, count=one.size // 4, offset=one.offset)
            ends[[first, second]] = ends[[second, first]]
        (payload / f"{name}.bin").write_bytes(data)

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


@pytest.mark.parametrize(
    ("variant", "place", "name"),
    [
        ("genai-cpu-int4", "tokenizer", "permuted-token-ids"),
        ("openvino-int4", "openvino_tokenizer", "permuted-token-ids"),
        ("openvino-int4", "openvino_detokenizer", "wrong-detokenizer"),
    ],
)
def test_two_exchanged_ids_are_named(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path, variant: str, place: str, name: str
) -> None:
    """No golden prompt and no answer holds either of the two."""
    pair = unasked(bench)
    edit = exchange_in_tokenizer if place == "tokenizer" else partial(exchange_in_ir, place)
    artifact = files(variant, edit(*pair)).made(built, tmp_path)
    # The lint of files sees other bytes than the source's as well.
    assert set(bench.failures(variant, "cpu", artifact)) - {"other-files"} == {name}


def in_detokenizer(before: bytes, after: bytes) -> Edit:
    """One string of the detokenizer's IR becomes another of its length, wherever it stands."""

    def edit(payload: Path) -> None:
        path = payload / "openvino_detokenizer.bin"
        data = path.read_bytes()
        assert before in data
        path.write_bytes(data.replace(before, after))

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        in_detokenizer(b"\xe2\x96\x81 ^ ", b"\xe2\x96\x81\t^ "),
        in_detokenizer(b"\x81 ^ ", b"\x81  +"),
        in_detokenizer(b"Santiago", b"xxxxxxxx"),
    ],
    ids=["tabs for spaces", "no spaces", "a word that no prompt asks for"],
)
def test_a_runtimes_own_text_is_the_sources(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path, edit: Edit
) -> None:
    artifact = files("openvino-int4", edit).made(built, tmp_path)
    found = set(bench.failures("openvino-int4", "cpu", artifact))
    assert found - {"wrong-text"} == {"wrong-detokenizer"}


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
        own = own_predictions(payload, recipe, SOURCE, bench.reference, {})
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
