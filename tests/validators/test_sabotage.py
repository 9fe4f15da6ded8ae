"""Broken artifacts, sealed again so that checksums do not tell: each is caught, by name."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.sabotage import (
    Sabotage,
    fewer_bits,
    other_weights,
    sabotaged,
    swap_layers,
    zero_layer,
)
from converters.openvino import convert
from phiforge.artifact.record import read_record
from support.bench import SOURCE, Bench, reseal
from support.checkout import available_variants
from support.jobs import SETTINGS, check_job
from validators.lint.openvino_ir import read_ir
from validators.lint.payload import lint
from validators.reference_tree import Reference, load_reference

Edit = Callable[[Path], None]
"""Breaks a payload in place."""


Built = Callable[[str], Path]


@dataclass(frozen=True)
class Broken:
    """A broken artifact, offered as ``variant``; ``make`` writes its payload."""

    variant: str
    make: Callable[[Built, Path], object]

    def made(self, built: Built, into: Path) -> Path:
        """The folder of its build."""
        self.make(built, into / "build/payload")
        return into / "build"


def weights(variant: str, sabotage: Sabotage) -> Broken:
    return Broken(variant, lambda built, payload: sabotaged(built(variant), payload, sabotage))


def files(variant: str, edit: Edit, of: str | None = None) -> Broken:
    """``edit`` of what was built as ``of``."""

    def make(built: Built, payload: Path) -> None:
        shutil.copytree(built(of or variant), payload, copy_function=shutil.copyfile)
        edit(payload)
        reseal(payload)

    return Broken(variant, make)


def nothing(payload: Path) -> None:
    pass


def replaced(name: str, old: str, new: str) -> Edit:
    """One text of a payload's file becomes another."""

    def edit(payload: Path) -> None:
        text = (payload / name).read_text(encoding="utf-8")
        assert old in text
        (payload / name).write_text(text.replace(old, new), encoding="utf-8")

    return edit


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
    found = bench.failures(broken.variant, row, broken.made(built, tmp_path))
    assert {"mean-kl", "max-kl"} <= set(found), found


@pytest.mark.parametrize(
    ("variant", "place", "name"),
    [
        ("genai-cpu-int4", "tokenizer", "permuted-token-ids"),
        ("openvino-int4", "openvino_tokenizer", "permuted-token-ids"),
        ("openvino-int4", "openvino_detokenizer", "wrong-text"),
    ],
)
def test_two_exchanged_ids_are_named(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path, variant: str, place: str, name: str
) -> None:
    """No golden prompt holds either of a tokenizer's two; a detokenizer's are of an answer."""
    answer = read_record(bench.reference / "REFERENCE.json")["prompts"][0]["answer_ids"]
    pair = answer[:2] if name == "wrong-text" else unasked(bench)
    edit = exchange_in_tokenizer if place == "tokenizer" else partial(exchange_in_ir, place)
    artifact = files(variant, edit(*pair)).made(built, tmp_path)
    assert bench.failures(variant, "cpu", artifact) == [name]


def test_asymmetric_int4_offered_as_ready_for_the_npu_is_named(
    bench: Bench, built: Callable[[str], Path], tmp_path: Path
) -> None:
    """A real one, made by nncf; its own metadata is edited to say that it is symmetric."""
    payload = tmp_path / "build/payload"
    payload.mkdir(parents=True)
    options = {"weight_format": "int4", "symmetric": False, "group_size": 128, "ratio": 1.0}
    convert(SOURCE, payload, options=options, base=built("openvino-fp16"))
    shutil.copy(built("openvino-int4-npu") / "npu-profile.json", payload)
    replaced("openvino_model.xml", "int4_asym", "int4_sym")(payload)
    reseal(payload)
    receipt = bench.receipt("openvino-int4-npu", "npu-standin", payload.parent)
    assert receipt["verdict"] == "failed"
    assert [failure["name"] for failure in receipt["failures"]] == ["asymmetric-weights"]
    assert "the NPU's compiler aborts" in receipt["reason"]
    assert receipt["executed_on"] is None


@pytest.fixture(scope="module")
def reference(bench: Bench) -> Reference:
    return load_reference(bench.reference)


def linted(variant: str, payload: Path, reference: Reference) -> set[str]:
    recipe = check_job(variant, SETTINGS.variants[variant].devices[0]).recipe
    failures = lint(payload, variant=asdict(recipe), reference=reference)
    return {failure.name for failure in failures}


def test_every_honest_variant_passes_its_lint(
    built: Callable[[str], Path], reference: Reference
) -> None:
    found = {name: linted(name, built(name), reference) for name in available_variants()}
    assert len(found) >= 10
    assert not {name: failures for name, failures in found.items() if failures}


def add_operator(payload: Path) -> None:
    graph = onnx.load(payload / "model.onnx", load_external_data=False)
    next(node for node in graph.graph.node if node.op_type == "Sigmoid").op_type = "Erf"
    onnx.save(graph, payload / "model.onnx")


def newer_opset(payload: Path) -> None:
    graph = onnx.load(payload / "model.onnx", load_external_data=False)
    graph.opset_import[0].version = 25
    onnx.save(graph, payload / "model.onnx")


def truncate(name: str) -> Edit:
    def edit(payload: Path) -> None:
        (payload / name).write_bytes((payload / name).read_bytes()[:-4096])

    return edit


OTHER_TURN = ("<|assistant|>", "<|user|>")
DOCTYPE = '<?xml version="1.0"?>\n<!DOCTYPE net [<!ENTITY a SYSTEM "/etc/hostname">]>'


def cases() -> Iterator[tuple[str, Broken, set[str]]]:
    """What the lint alone must see."""
    fp16, int8, npu = "openvino-fp16", "openvino-int8", "openvino-int4-npu"
    dml, dml16, nf4 = "genai-dml-int4", "genai-dml-fp16", "openvino-nf4-npu-cw"
    yield "FP16 rounded to 4 bits", weights(fp16, fewer_bits(4)), {"rounded-weights"}
    yield "INT8 rounded to 4 bits", weights(int8, fewer_bits(4)), {"rounded-weights"}
    yield "INT4 rounded to 3 bits", weights(npu, fewer_bits(3)), {"rounded-weights"}
    yield "NF4 rounded to 3 bits", weights(nf4, fewer_bits(3)), {"rounded-weights"}
    yield "ONNX FP16 rounded", weights(dml16, fewer_bits(4)), {"rounded-weights"}
    yield "ONNX INT4 rounded", weights(dml, fewer_bits(3)), {"rounded-weights"}
    metadata = "nncf-metadata"
    yield "INT8 as FP16", files(fp16, nothing, of=int8), {"stored-types", metadata}
    yield "FP16 as INT8", files(int8, nothing, of=fp16), {"stored-types", metadata}
    mixed = {"stored-types", "int4-ratio", metadata, "npu-profile"}
    yield "mixed as NPU", files(npu, nothing, of="openvino-int4"), mixed
    whole = {"group-size", metadata}
    yield "channel-wise as groups", files(npu, nothing, of=f"{npu}-cw"), whole
    types = {"stored-types", metadata}
    yield "INT4 as NF4", files(nf4, nothing, of=f"{npu}-cw"), types
    yield "NF4 as INT4", files(f"{npu}-cw", nothing, of=nf4), types
    yield "NPU as mixed", files("openvino-int4", nothing, of=npu), {"int4-ratio", metadata}
    lax = replaced(
        "npu-profile.json", '"MAX_PROMPT_LEN"', '"NPUW_DEVICES": "NPU,CPU", "MAX_PROMPT_LEN"'
    )
    yield "options in the profile", files(npu, lax), {"npu-profile"}
    yield "truncated IR", files(fp16, truncate("openvino_model.bin")), {"incomplete-weights"}
    yield "truncated ONNX", files(dml, truncate("model.onnx.data")), {"incomplete-weights"}
    entity = replaced("openvino_model.xml", '<?xml version="1.0"?>', DOCTYPE)
    yield "an XML entity", files(fp16, entity), {"unreadable-ir"}
    yield "unknown operator", files(dml, add_operator), {"unknown-operator"}
    yield "newer opset", files(dml, newer_opset), {"opset"}
    cuda = {"wrong-provider", "attention-form"}
    yield "CUDA as DirectML", files(dml, nothing, of="genai-cuda-int4"), cuda
    adapter = replaced("genai_config.json", '"enable_graph_capture": "1"', '"device_index": "1"')
    yield "an adapter's number", files(dml, adapter), {"provider-options"}
    yield "ONNX FP16 as INT4", files(dml, nothing, of=dml16), {"stored-types"}
    template = replaced("tokenizer_config.json", *OTHER_TURN)
    yield "other chat template", files(dml, template), {"chat-template"}
    in_ir = replaced("openvino_tokenizer.xml", "&lt;|assistant|>", "&lt;|user|>")
    yield "other template in the IR", files(fp16, in_ir), {"chat-template"}


CASES = {name: (broken, names) for name, broken, names in cases()}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_as_declared_is_named_before_it_runs(
    built: Callable[[str], Path], reference: Reference, tmp_path: Path, case: str
) -> None:
    broken, names = CASES[case]
    payload = broken.made(built, tmp_path) / "payload"
    assert linted(broken.variant, payload, reference) == names
