"""What the lint must see before anything runs: one line a sabotage, each with its failure's name.

To add one, yield its name, the broken artifact and the names of the failures.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from benchmarks.sabotage import (
    Sabotage,
    Weights,
    fewer_bits,
    other_weights,
    roll_groups,
    rope_base,
    rows_of,
    swap_layers,
)
from phiforge.artifact.payload_files import GENAI_CONFIG
from support.broken import Broken, Edit, files, nothing, replaced, weights
from support.checkout import ROOT, Checkout, available_variants
from support.jobs import SETTINGS, check_job
from validators.lint.payload import lint
from validators.reference_tree import Reference, load_reference

Array = npt.NDArray[Any]
Cases = Iterator[tuple[str, Broken, set[str]]]

FP16, INT8, AWQ = "openvino-fp16", "openvino-int8", "openvino-int4-awq"
MIXED, NPU, CW = "openvino-int4", "openvino-int4-npu", "openvino-int4-npu-cw"
NF4, DML16, DML, CPU = "openvino-nf4-npu-cw", "genai-dml-fp16", "genai-dml-int4", "genai-cpu-int4"
LIBRARY8, LIBRARY4 = "npu-library-int8", "npu-library-int4"


@pytest.fixture(scope="module")
def reference(pipeline: Checkout) -> Reference:
    return load_reference(pipeline.folder / "artifacts/reference/phi3-tiny")


def linted(variant: str, payload: Path, reference: Reference) -> set[str]:
    recipe = check_job(variant, SETTINGS.variants[variant].devices[0]).recipe
    source = ROOT / "models/phi3-tiny"
    failures = lint(payload, variant=asdict(recipe), reference=reference, source=source)
    return {failure.name for failure in failures}


def test_every_honest_variant_passes_its_lint(
    built: Callable[[str], Path], reference: Reference
) -> None:
    found = {name: linted(name, built(name), reference) for name in available_variants()}
    assert len(found) >= 10
    assert not {name: failures for name, failures in found.items() if failures}


# Weights


def roll(rows: Array) -> None:
    rows[:] = np.roll(rows, 1, axis=0)


def roll_the_last(rows: Array) -> None:
    """Tokens that no prompt uses."""
    rows[1200:1500] = np.roll(rows[1200:1500], 1, axis=0)


def zero_some(rows: Array) -> None:
    rows[700:711] = 0


def swap_nibbles(rows: Array) -> None:
    rows[:] = (rows >> 4) | (rows << 4)


def next_code(rows: Array) -> None:
    """One weight takes the neighbouring code."""
    rows[5, 7] ^= 1


def exchange_heads(rows: Array) -> None:
    rows[:128] = np.roll(rows[:128], 64, axis=0)


def permute_columns(rows: Array) -> None:
    rows[:, :32] = rows[:, 31::-1]


def scaled(by: float, rows: slice = slice(3, 4)) -> Callable[[Array], None]:
    def edit(values: Array) -> None:
        values[rows] *= values.dtype.type(by)

    return edit


def to_nan(rows: Array) -> None:
    rows[0] = np.nan


def one_weight(rows: Array) -> None:
    rows[9, 9] *= 8


def exchange_edges(first: str, second: str) -> Edit:
    """Two products read one another's matrix; every name and every byte of the weights stays."""

    def edit(payload: Path) -> None:
        path = payload / "openvino_model.xml"
        text = path.read_text(encoding="utf-8")
        products = [
            re.search(rf'<layer id="(\d+)" name="{name}"', text) for name in (first, second)
        ]
        edges = [
            re.search(
                rf'<edge from-layer="(\d+)" from-port="\d+" to-layer="{one[1]}" to-port="1"', text
            )
            for one in products
            if one
        ]
        one, other = (edge for edge in edges if edge)
        swapped = {one[0]: one[0].replace(one[1], other[1], 1)}
        swapped[other[0]] = other[0].replace(other[1], one[1], 1)
        for before, after in swapped.items():
            text = text.replace(before, after)
        path.write_text(text, encoding="utf-8")

    return edit


def of_weights() -> Cases:
    codes, scales = {"other-weights"}, {"other-scales"}
    for variant in (FP16, INT8, NPU, NF4, DML16, DML, LIBRARY8):
        bits = {"fp16": 7, "int8": 7}.get(SETTINGS.variants[variant].precision, 3)
        yield f"{variant} in {bits} bits", weights(variant, fewer_bits(bits)), codes
    for variant in (MIXED, DML, DML16, LIBRARY4):
        edit = rows_of(r"embed_tokens\S*weight$", roll_the_last)
        yield f"unused tokens in {variant}", weights(variant, edit), {"other-embedding"}
    last = r"layers\.15\.attn\.v_proj\.MatMul\.weight_Q4$"
    for edit in (swap_nibbles, next_code, exchange_heads, permute_columns):
        yield f"{edit.__name__} in {DML}", weights(DML, rows_of(last, edit)), codes
    edit = rows_of(last.replace("_Q4", "_scales"), scaled(8))
    yield "a row's scales x8", weights(DML, edit), codes | scales
    yield "scales x1.3", weights(CPU, rows_of(r"3\.mlp\.up\S*scales$", scaled(1.3))), codes | scales
    yield "a scale x1.005", weights(NF4, rows_of(r"1\.mlp\.down\S*/scale$", scaled(1.005))), scales
    yield "NaN scales", weights(CW, rows_of(r"1\.mlp\.down\S*/scale$", to_nan)), codes | scales
    yield "a level of NF4", weights(NF4, rows_of(r"1\.mlp\.down\S*weight$", next_code)), codes
    yield "groups rolled", weights(NPU, roll_groups), codes | scales
    edit = rows_of(r"2\.self_attn\.o_proj\S*/zero_point$", next_point)
    yield "a zero point", weights(INT8, edit), {"other-weights", "other-zero-points"}
    yield (
        "AWQ's scales",
        weights(AWQ, rows_of(r"awq_mul/scale$", one_channel)),
        {"other-awq-scales"},
    )
    yield "one weight x8", weights(DML16, rows_of(r"7\.mlp\.up_proj\S*weight$", one_weight)), codes
    yield "LM head", weights(DML16, rows_of(r"^lm_head\S*weight$", zero_columns)), codes
    yield "a norm", weights(DML, rows_of(r"4\.input_layernorm", scaled(1.01))), {"other-norms"}
    yield "library scale", weights(LIBRARY4, rows_of(r"3\.mlp\.down\S*scale$", scaled(2))), scales
    yield "another's weights", weights(MIXED, other_weights), codes | scales | {"other-zero-points"}
    yield "layers swapped", weights(NPU, swap_layers(4, 5)), codes | scales
    edges = exchange_edges(
        *(f"__module.model.layers.{one}.self_attn.o_proj/ov_ext::linear/MatMul" for one in (2, 9))
    )
    yield "edges exchanged", files(FP16, edges), codes


def next_point(rows: Array) -> None:
    rows[0] += 1


def one_channel(rows: Array) -> None:
    rows.reshape(-1)[3] *= 1.01


def zero_columns(rows: Array) -> None:
    """An ONNX graph has a float matrix the other way round."""
    rows[:, 700:711] = 0


# Constants


def attention(**changes: Any) -> Edit:
    def edit(payload: Path) -> None:
        graph = onnx.load(payload / "model.onnx", load_external_data=False)
        nodes = [node for node in graph.graph.node if node.op_type == "GroupQueryAttention"]
        for node in nodes[-1:]:
            for entry in [one for one in node.attribute if one.name in changes]:
                node.attribute.remove(entry)
            node.attribute.extend(onnx.helper.make_attribute(*one) for one in changes.items())
        onnx.save(graph, payload / "model.onnx")

    return edit


def epsilon(payload: Path) -> None:
    graph = onnx.load(payload / "model.onnx", load_external_data=False)
    node = next(node for node in graph.graph.node if node.op_type.startswith("Skip"))
    next(one for one in node.attribute if one.name == "epsilon").f = 1e-3
    onnx.save(graph, payload / "model.onnx")


def zero_from(rows: Array) -> None:
    rows[2198:] = 0


def in_the_window(weights: Weights) -> None:
    """The window's length becomes another, wherever it stands."""
    window = np.frombuffer(np.int64(-2047).tobytes(), np.uint8)
    for tensor in weights.tensors.values():
        if tensor.size == 8 and (weights.of(tensor) == window).all():
            weights.of(tensor).view(np.int64)[:] = -128


def constant(value: float, other: float) -> Sabotage:
    """A float32 constant of an IR that stands alone becomes another."""

    def sabotage(weights: Weights) -> None:
        for tensor in weights.tensors.values():
            if tensor.type == "f32" and tensor.size == 4:
                view = weights.of(tensor).view(np.float32)
                view[view == np.float32(value)] = other

    return sabotage


def of_constants() -> Cases:
    rope = {"other-rope"}
    yield "RoPE's cache cut", weights(DML, rows_of(r"^cos_cache", zero_from)), rope
    yield "RoPE's base in a cache", weights(CPU, rope_base(10100)), rope
    yield "RoPE's base in an IR", weights(NPU, rope_base(10100)), rope
    yield "no window on the CPU", files(CPU, attention(local_window_size=-1)), {"other-window"}
    yield "another window in an IR", weights(FP16, in_the_window), {"other-window"}
    yield "attention's scale", files(DML, attention(scale=0.156)), {"other-attention-scale"}
    yield "an IR's attention", weights(CW, constant(0.125, 0.156)), {"other-attention-scale"}
    yield "heads", files(CPU, attention(kv_num_heads=2)), {"other-heads"}
    yield "epsilon", files(DML, epsilon), {"other-epsilon"}
    yield "an IR's epsilon", weights(INT8, constant(1e-5, 1e-3)), {"other-epsilon"}


# Files


def remove(name: str) -> Edit:
    return lambda payload: (payload / name).unlink()


def add(name: str) -> Edit:
    return lambda payload: (payload / name).write_text("import os\n") and None


def of_files() -> Cases:
    other, settings = {"other-files"}, {"other-configuration"}
    yield "no LICENSE", files(DML, remove("LICENSE")), {"missing-file"}
    yield "no generation", files(DML, remove("generation_config.json")), {"missing-file"}
    yield "a stray program", files(MIXED, add("modeling.py")), {"unexpected-file"}
    model = replaced("config.json", '"num_hidden_layers": 16', '"num_hidden_layers": 8')
    yield "another model's config.json", files(FP16, model), other
    special = replaced("tokenizer.json", '"special": true', '"special": false')
    yield "added tokens not special", files(DML, special), other | {"wrong-detokenizer"}
    padding = replaced("tokenizer_config.json", '"padding_side": "left"', '"padding_side": "right"')
    yield "padding on the right", files(NPU, padding), other
    for old, new in (
        ('"context_length": 4096', '"context_length": 430'),
        ('"max_length": 4096', '"max_length": 32'),
        ('"do_sample": false', '"do_sample": true'),
        ('"repetition_penalty": 1.0', '"repetition_penalty": 1.05'),
        ("            1547", "            1547,\n            900"),
        ('"log_id": ', '"intra_op_num_threads": 1, "log_id": '),
        ('"enable_graph_capture": "1"', '"enable_graph_capture": "0"'),
    ):
        yield f"genai_config: {new.strip()}", files(DML, replaced(GENAI_CONFIG, old, new)), settings


# Forms


def add_operator(payload: Path) -> None:
    graph = onnx.load(payload / "model.onnx", load_external_data=False)
    next(node for node in graph.graph.node if node.op_type == "ReduceSum").op_type = "ReduceL1"
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


def of_forms() -> Cases:
    metadata = "nncf-metadata"
    yield "INT8 as FP16", files(FP16, nothing, of=INT8), {"stored-types", metadata}
    yield "FP16 as INT8", files(INT8, nothing, of=FP16), {"stored-types", metadata}
    mixed = {"stored-types", "int4-ratio", metadata, "npu-profile", "missing-file"}
    yield "mixed as NPU", files(NPU, nothing, of=MIXED), mixed
    whole = {"group-size", metadata}
    yield "channel-wise as groups", files(NPU, nothing, of=CW), whole
    types = {"stored-types", metadata}
    yield "INT4 as NF4", files(NF4, nothing, of=CW), types
    yield "NF4 as INT4", files(CW, nothing, of=NF4), types
    yield "NPU as mixed", files(MIXED, nothing, of=NPU), {"int4-ratio", metadata, "unexpected-file"}
    lax = replaced(
        "npu-profile.json", '"MAX_PROMPT_LEN"', '"NPUW_DEVICES": "NPU,CPU", "MAX_PROMPT_LEN"'
    )
    yield "options in the profile", files(NPU, lax), {"npu-profile"}
    yield "truncated IR", files(FP16, truncate("openvino_model.bin")), {"incomplete-weights"}
    yield "truncated ONNX", files(DML, truncate("model.onnx.data")), {"incomplete-weights"}
    entity = replaced("openvino_model.xml", '<?xml version="1.0"?>', DOCTYPE)
    yield "an XML entity", files(FP16, entity), {"unreadable-ir"}
    yield "unknown operator", files(DML, add_operator), {"unknown-operator"}
    yield "newer opset", files(DML, newer_opset), {"opset"}
    cuda = {"wrong-provider", "attention-form", "other-window", "other-configuration"}
    yield "CUDA as DirectML", files(DML, nothing, of="genai-cuda-int4"), cuda
    adapter = replaced("genai_config.json", '"enable_graph_capture": "1"', '"device_index": "1"')
    yield "an adapter's number", files(DML, adapter), {"provider-options", "other-configuration"}
    yield "ONNX FP16 as INT4", files(DML, nothing, of=DML16), {"stored-types"}
    template = replaced("tokenizer_config.json", *OTHER_TURN)
    yield "other chat template", files(DML, template), {"chat-template", "other-files"}
    in_ir = replaced("openvino_tokenizer.xml", "&lt;|assistant|>", "&lt;|user|>")
    yield "other template in the IR", files(FP16, in_ir), {"chat-template"}


CASES = {
    name: (broken, names)
    for name, broken, names in (*of_weights(), *of_constants(), *of_files(), *of_forms())
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_not_as_declared_is_named_before_it_runs(
    built: Callable[[str], Path], reference: Reference, tmp_path: Path, case: str
) -> None:
    broken, names = CASES[case]
    if broken.variant in (LIBRARY8, LIBRARY4) and not built(broken.variant).is_dir():
        pytest.skip("needs the environment of the NPU library: make npu-library")
    payload = broken.made(built, tmp_path) / "payload"
    assert linted(broken.variant, payload, reference) == names
