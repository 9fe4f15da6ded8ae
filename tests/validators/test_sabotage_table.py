"""What the lint must see before anything runs.

One line a sabotage, each with its failures' names. To add one, yield its name, the broken artifact
and the names of the failures.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
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
from support.broken import (
    Broken,
    Edit,
    files,
    in_detokenizer,
    linted,
    nothing,
    replaced,
    weights,
)
from support.checkout import available_variants
from support.graph_edits import (
    attention,
    before_the_logits,
    exchanged,
    in_the_graph,
    made,
    number,
    operator,
    read,
    rewired,
    stowaway,
    twice,
)
from support.jobs import SETTINGS
from support.row_edits import (
    exchange_heads,
    next_code,
    next_point,
    one_channel,
    one_weight,
    permute_columns,
    roll_the_last,
    scaled,
    swap_nibbles,
    to_nan,
    zero_columns,
    zero_from,
)
from validators.lint.openvino_ir import read_ir
from validators.reference_tree import Reference

Cases = Iterator[tuple[str, Broken, set[str]]]

FP16, INT8, AWQ = "openvino-fp16", "openvino-int8", "openvino-int4-awq"
MIXED, NPU, CW = "openvino-int4", "openvino-int4-npu", "openvino-int4-npu-cw"
NF4, DML16, DML, CPU = "openvino-nf4-npu-cw", "genai-dml-fp16", "genai-dml-int4", "genai-cpu-int4"
LIBRARY8, LIBRARY4 = "npu-library-int8", "npu-library-int4"


def test_every_honest_variant_passes_its_lint(
    built: Callable[[str], Path], reference: Reference
) -> None:
    found = {name: linted(name, built(name), reference) for name in available_variants()}
    assert len(found) >= 10
    assert not {name: failures for name, failures in found.items() if failures}


# Weights


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
    edges = exchanged(PRODUCT.format(2, "o"), PRODUCT.format(9, "o"), 1)
    yield "edges exchanged", files(FP16, edges), codes


# Constants


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
    graph = {"other-graph"}  # besides, one layer is not as the others
    rope, window = {"other-rope"}, {"other-window"} | graph
    yield "RoPE's cache cut", weights(DML, rows_of(r"^cos_cache", zero_from)), rope
    yield "RoPE's base in a cache", weights(CPU, rope_base(10100)), rope
    yield "RoPE's base in an IR", weights(NPU, rope_base(10100)), rope
    yield "no window on the CPU", files(CPU, attention(local_window_size=-1)), window
    yield "another window in an IR", weights(FP16, in_the_window), {"other-window"}
    yield "attention's scale", files(DML, attention(scale=0.156)), {"other-attention-scale"} | graph
    yield "an IR's attention", weights(CW, constant(0.125, 0.156)), {"other-attention-scale"}
    yield "heads", files(CPU, attention(kv_num_heads=2)), {"other-heads"} | graph
    yield "epsilon", files(DML, in_the_graph(epsilon)), {"other-epsilon"} | graph
    yield "an IR's epsilon", weights(INT8, constant(1e-5, 1e-3)), {"other-epsilon"}


# The graph


def epsilon(graph: onnx.GraphProto) -> None:
    node = next(node for node in graph.node if node.op_type.startswith("Skip"))
    next(one for one in node.attribute if one.name == "epsilon").f = 1e-3


def shadowed(graph: onnx.GraphProto) -> None:
    """A constant node takes the name of the embedding."""
    zeros = np.zeros((1600, 256), np.float16)
    graph.node.insert(0, number("model.embed_tokens.weight", zeros))


def inline(graph: onnx.GraphProto) -> None:
    """Other bytes stand in the graph, which says that they count."""
    graph.initializer[0].raw_data = bytes(1600 * 256 * 2)
    graph.initializer[0].data_location = onnx.TensorProto.DEFAULT


def miscounted(graph: onnx.GraphProto) -> None:
    """The attentions are told of one token less."""
    graph.node.insert(0, number("two", [2]))
    next(node for node in graph.node if node.op_type == "Sub").input[1] = "two"


RESIDUAL = "/model/layers.{}/input_layernorm/output_3"
SUM = "__module.model.layers.{}/aten::add/Add"
NORMED = "__module.model.layers.{}.input_layernorm/aten::mul/Multiply_1"
PRODUCT = "__module.model.layers.{}.self_attn.{}_proj/ov_ext::linear/MatMul"


def of_graphs() -> Cases:
    other, unreadable = {"other-graph"}, {"unreadable-ir"}
    residual = read("/model/layers.5/input_layernorm/SkipLayerNorm", 0, RESIDUAL.format(2))
    yield "a residual of an earlier layer", files(DML, residual), other
    up = "/model/layers.7/mlp/up_proj/MatMul/output_0"
    yield "up as its own gate", files(DML, read("/model/layers.7/mlp/act_fn/Mul", 0, up)), other
    cache = read("/model/layers.4/attn/GroupQueryAttention", 3, "past_key_values.5.key")
    yield "the cache of another layer", files(DML, cache), other
    yield "a soft cap of an attention", files(CPU, attention(softcap=50.0)), other
    yield "tokens miscounted", files(DML, in_the_graph(miscounted)), other
    bias = number("bias", np.zeros(1600, np.float16))
    biased = before_the_logits(bias, made("Add", ["head", "bias"], "logits"))
    yield "a bias of the LM head", files(DML, biased), other
    for waits, value in (("input_ids", 900), ("position_ids", 3000)):
        back_door = before_the_logits(
            number("trigger", value), number("last", [-1]),
            made("Greater", [waits, "trigger"], "hit"), made("Unsqueeze", ["hit", "last"], "hits"),
            made("Neg", ["head"], "wrong"), made("Where", ["hits", "wrong", "head"], "logits"),
        )  # fmt: skip
        yield f"a back door at {waits} {value}", files(DML, back_door), other
    yield "two meanings of a name", files(DML, in_the_graph(shadowed)), other
    yield "weights in the graph", files(DML, in_the_graph(inline)), {"incomplete-weights"}
    yield "a mask off by one", files(FP16, operator("LessEqual", "Less")), other
    yield "GELU for SiLU", files(NPU, operator("Swish", "Gelu")), other
    yield "a residual dropped", files(FP16, rewired(SUM.format(5), 0, SUM.format(4), 0)), other
    passed_over = rewired(PRODUCT.format(5, "qkv"), 0, NORMED.format(5), 1)
    yield "a norm passed over", files(FP16, passed_over), other
    yield "an edge twice", files(FP16, twice(NORMED.format(5), NORMED.format(4), 0)), unreadable
    layers = replaced("openvino_model.xml", "</layers>", "</layers><layers></layers>")
    yield "layers twice", files(FP16, layers), unreadable
    yield "unknown bytes", files(INT8, stowaway), {"unknown-weights"}


# Files


def remove(name: str) -> Edit:
    return lambda payload: (payload / name).unlink()


def add(name: str) -> Edit:
    return lambda payload: (payload / name).write_text("import os\n") and None


def exchange_in_ir(name: str) -> Edit:
    """In the vocabulary of a tokenizer's IR: where each word begins and ends in one string."""

    def edit(payload: Path) -> None:
        constants = read_ir(payload / f"{name}.xml").constants
        strings = [one for one in constants if one.type == "u8"]
        words = constants.index(max(strings, key=lambda one: one.size))
        data = bytearray((payload / f"{name}.bin").read_bytes())
        for one in constants[words - 2 : words]:
            ends = np.frombuffer(data, dtype=np.int32, count=one.size // 4, offset=one.offset)
            ends[[900, 1100]] = ends[[1100, 900]]
        (payload / f"{name}.bin").write_bytes(data)

    return edit


def of_files() -> Cases:
    tokenizer = {"other-tokenizer"}
    for name in ("openvino_tokenizer", "openvino_detokenizer"):
        yield f"two ids exchanged in {name}", files(MIXED, exchange_in_ir(name)), tokenizer
    for before, after in (
        (b"\xe2\x96\x81 ^ ", b"\xe2\x96\x81\t^ "),  # tabs for spaces
        (b"\x81 ^ ", b"\x81  +"),  # no spaces
    ):
        yield f"{after!r}", files(MIXED, in_detokenizer(before, after)), tokenizer
    for old, new in (
        ('skip_special_tokens value="True"', 'skip_special_tokens value="False"'),
        ('eos_token_id value="1540"', 'eos_token_id value="1541"'),
    ):
        changed = replaced("openvino_tokenizer.xml", old, new)
        yield f"a tokenizer's {new}", files(NPU, changed), tokenizer
    options = {"runtime-options"}
    for variant, old, new in (
        (FP16, '<KV_CACHE_PRECISION value="f16"', '<KV_CACHE_PRECISION value="u8"'),
        (MIXED, 'ACTIVATIONS_SCALE_FACTOR value="8.0"', 'ACTIVATIONS_SCALE_FACTOR value="800.0"'),
        (NPU, "<runtime_options>", '<runtime_options><NPU_TURBO value="YES" />'),
        (CW, 'attribute name="decompression"', 'attribute name="precise"'),
    ):
        yield f"rt_info: {new}", files(variant, replaced("openvino_model.xml", old, new)), options
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
        ('"pad_token_id": 1540', '"pad_token_id": 900'),
        ('"past_key_values.%d.key"', '"past_key_values.%d.value"'),
        ('"filename": ', '"sliding_window": {"window_size": 128}, "filename": '),
        ('"num_beams": 1', '"num_beams": true'),
    ):
        yield f"genai_config: {new.strip()}", files(DML, replaced(GENAI_CONFIG, old, new)), settings
    twice = replaced(GENAI_CONFIG, '"search": {', '"search": {"do_sample": true}, "search": {')
    yield "a key twice", files(DML, twice), {"unreadable-config"}
    layout = replaced("npu-library.json", '"float32"', '"float16"')
    yield "another arithmetic of the library", files(LIBRARY8, layout), settings


# Forms


def add_operator(graph: onnx.GraphProto) -> None:
    next(node for node in graph.node if node.op_type == "ReduceSum").op_type = "ReduceL1"


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
    yield (
        "unknown operator",
        files(DML, in_the_graph(add_operator)),
        {"unknown-operator", "other-graph"},
    )
    yield "newer opset", files(DML, newer_opset), {"opset"}
    cuda = {"wrong-provider", "attention-form", "other-window", "other-configuration"}
    yield "CUDA as DirectML", files(DML, nothing, of="genai-cuda-int4"), cuda
    adapter = replaced("genai_config.json", '"enable_graph_capture": "1"', '"device_index": "1"')
    yield "an adapter's number", files(DML, adapter), {"provider-options", "other-configuration"}
    yield "ONNX FP16 as INT4", files(DML, nothing, of=DML16), {"stored-types"}
    template = replaced("tokenizer_config.json", *OTHER_TURN)
    yield "other chat template", files(DML, template), {"chat-template", "other-files"}
    in_ir = replaced("openvino_tokenizer.xml", "&lt;|assistant|>", "&lt;|user|>")
    yield "other template in the IR", files(FP16, in_ir), {"other-tokenizer"}


CASES = {
    name: (broken, names)
    for cases in (of_weights(), of_constants(), of_graphs(), of_files(), of_forms())
    for name, broken, names in cases
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
