"""An ONNX Runtime GenAI build as it is stored, held against the options of its variant.

Needs the package ``onnx``, which the runtime ``onnx_genai`` needs too. Only the graph is loaded;
weights stay where they are. Operators: the ONNX specification and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from phiforge.artifact.payload_files import GENAI_CONFIG, ONNX_GRAPH, ONNX_WEIGHTS
from phiforge.artifact.record import RecordError, read_record
from validators.contract import ArtifactError
from validators.lint.finding import Finding, some
from validators.lint.providers import IR_VERSION, OPSETS, PROVIDERS, Provider
from validators.lint.rounding import Matrix

TOOLCHAIN = ("onnx",)

_BITS = 4
_WIDTHS = {"FLOAT": 4, "FLOAT16": 2, "UINT8": 1, "INT64": 8, "INT32": 4}
_NUMPY = {"FLOAT": np.float32, "FLOAT16": np.float16}


def read_graph(payload: Path) -> ModelProto:
    """The graph of a build without its weights.

    Raises:
        ArtifactError: ``unreadable-graph``.
    """
    try:
        return onnx.load(str(payload / ONNX_GRAPH), load_external_data=False)
    except Exception as error:  # protobuf's own classes, which differ by its implementation
        raise ArtifactError("unreadable-graph", f"{ONNX_GRAPH}: {error}") from None


def lint_graph(graph: ModelProto, options: Mapping[str, Any]) -> list[Finding]:
    """Operators, opsets and stored types against the options of converter ``onnx_genai``.

    Args:
        options: as `converters.onnx_genai.options` describes them.
    """
    provider = PROVIDERS[options["execution_provider"]]
    return [
        *_lint_opsets(graph),
        *_lint_operators(graph, provider, options["execution_provider"]),
        *_lint_attention(graph, provider, options["execution_provider"]),
        *_lint_matrices(graph, options),
        *_lint_types(graph, provider, options),
    ]


def lint_config(payload: Path, options: Mapping[str, Any]) -> list[Finding]:
    """``genai_config.json`` names the graph, the provider, and options that the provider knows."""
    try:
        decoder = read_record(payload / GENAI_CONFIG)["model"]["decoder"]
        told = decoder["session_options"]["provider_options"]
        stated = [(name, given) for entry in told for name, given in entry.items()]
        keys = [set(given) for _, given in stated]
    except (RecordError, KeyError, TypeError, AttributeError) as error:
        return [Finding("unreadable-config", f"{GENAI_CONFIG}: {error!r}")]
    name = options["execution_provider"]
    wanted = [] if name == "cpu" else [name]
    found = []
    if [one for one, _ in stated] != wanted:
        what = f"{GENAI_CONFIG} asks for {[one for one, _ in stated]}, the variant for {wanted}"
        found.append(Finding("wrong-provider", what))
    unknown = sorted(set().union(*keys) - PROVIDERS[name].options)
    if unknown and not found:
        what = f"{GENAI_CONFIG} gives {name} options that do not belong there: {some(unknown)}"
        found.append(Finding("provider-options", what))
    if decoder.get("filename") != ONNX_GRAPH:
        what = f"{GENAI_CONFIG} names the graph {decoder.get('filename')!r}, it is {ONNX_GRAPH}"
        found.append(Finding("wrong-graph", what))
    return found


def _lint_opsets(graph: ModelProto) -> list[Finding]:
    wrong = [
        f"{one.domain or 'ai.onnx'} {one.version}"
        for one in graph.opset_import
        if one.version > OPSETS.get(one.domain, 0)
    ]
    if graph.ir_version > IR_VERSION:
        wrong.append(f"IR version {graph.ir_version}")
    if not wrong:
        return []
    known = ", ".join(f"{name or 'ai.onnx'} {version}" for name, version in OPSETS.items())
    what = f"the device's runtime knows {known} and IR version {IR_VERSION}, the graph has "
    return [Finding("opset", what + some(wrong))]


def _graphs(graph: ModelProto) -> list[GraphProto]:
    """The graph and those in its nodes' attributes (branches of ``If``)."""
    found = [graph.graph]
    for part in found:  # grows on the way
        found += [one.g for node in part.node for one in node.attribute if one.HasField("g")]
    return found


def _nodes(graph: ModelProto, operator: str | None = None) -> list[NodeProto]:
    """Every node, those of subgraphs included, or those of one operator."""
    nodes = [node for part in _graphs(graph) for node in part.node]
    return [node for node in nodes if operator in (None, node.op_type)]


def _lint_operators(graph: ModelProto, provider: Provider, name: str) -> list[Finding]:
    # ONNX has "" and "ai.onnx" for the same domain
    used = {(node.domain.removeprefix("ai.onnx"), node.op_type) for node in _nodes(graph)}
    unknown = sorted(
        f"{domain or 'ai.onnx'}.{operator}"
        for domain, operator in used
        if operator not in provider.operators.get(domain, ())
    )
    if not unknown:
        return []
    return [Finding("unknown-operator", f"{name} is not known to run {some(unknown)}")]


def _lint_attention(graph: ModelProto, provider: Provider, name: str) -> list[Finding]:
    wrong = set()
    for node in _nodes(graph, "GroupQueryAttention"):
        given = _attributes(node)
        for key, value in provider.attention_needs.items():
            if given.get(key, value) != value:
                wrong.add(f"{key} {given[key]}")
        if provider.attention_inputs is None:
            continue
        if not all(node.input[1:3]):
            wrong.add("query, key and value in one input")
        wrong.update(f"input {one}" for one in node.input[provider.attention_inputs :] if one)
    if not wrong:
        return []
    what = f"{name}'s GroupQueryAttention ignores or refuses {some(sorted(wrong))}"
    return [Finding("attention-form", what)]


def _lint_matrices(graph: ModelProto, options: Mapping[str, Any]) -> list[Finding]:
    tensors = _tensors(graph)
    quantized = _nodes(graph, "MatMulNBits")
    plain = [node for node in _nodes(graph, "MatMul") if node.input[1] in tensors]
    if options["precision"] == "fp16":
        if plain and not quantized:
            return []
        of = len(quantized) + len(plain)
        what = f"float matrices are declared, {len(quantized)} of {of} are quantized"
        return [Finding("stored-types", what)]
    if plain or not quantized:
        names = some([node.name for node in plain])
        what = f"INT4 matrices are declared, {len(plain)} are float: {names}"
        return [Finding("stored-types", what)]
    return _lint_quantized(quantized, tensors, options)


def _lint_quantized(
    nodes: list[NodeProto], tensors: Mapping[str, TensorProto], options: Mapping[str, Any]
) -> list[Finding]:
    block = options.get("block_size", 32)
    wanted = {"bits": _BITS, "block_size": block}
    level = options.get("accuracy_level", 0)
    # onnxruntime's k_quant gives zero points whatever is_symmetric says
    symmetric = options.get("is_symmetric", True) and options.get("algo_config") != "k_quant"
    reads = PROVIDERS[options["execution_provider"]].matmul_inputs
    form, asymmetric, shapes = set(), [], []
    for node in nodes:
        given = _attributes(node)
        told = {**wanted, "accuracy_level": level}
        form |= {f"{key} {given.get(key, 0)}" for key in told if given.get(key, 0) != told[key]}
        form |= {f"input {one}" for one in node.input[reads:] if reads and one}
        if symmetric and any(node.input[3:4]):
            asymmetric.append(node.name)
        blocks = math.ceil(int(given.get("K", 0)) / block)
        codes, scales = (tensors.get(name) for name in node.input[1:3])
        if (
            codes is None
            or scales is None
            or list(codes.dims) != [given.get("N"), blocks, block * _BITS // 8]
            or math.prod(scales.dims) != given.get("N", 0) * blocks
        ):
            shapes.append(node.name)
    found = []
    if form:
        what = f"{_BITS} bits in blocks of {block}, accuracy level {level} are declared"
        found.append(Finding("block-form", f"{what}, MatMulNBits has {some(sorted(form))}"))
    if asymmetric:
        what = f"INT4 weights with zero points, symmetric ones are declared: {some(asymmetric)}"
        found.append(Finding("asymmetric-weights", what))
    if shapes and not form:
        what = f"codes or scales do not have the shape of their MatMulNBits: {some(shapes)}"
        found.append(Finding("block-form", what))
    return found


def _lint_types(graph: ModelProto, provider: Provider, options: Mapping[str, Any]) -> list[Finding]:
    quantized = _nodes(graph, "MatMulNBits")
    codes = {node.input[1] for node in quantized}
    zero_points = {name for node in quantized for name in node.input[3:4]}
    wrong = []
    for name, tensor in _tensors(graph).items():
        kind = TensorProto.DataType.Name(tensor.data_type)
        allowed = {"UINT8"} if name in codes else {provider.float_type}
        if kind not in allowed | ({"UINT8"} if name in zero_points else set()):
            wrong.append(f"{name} {kind}")
    if not wrong:
        return []
    computes = f"{options['execution_provider']} computes in {provider.float_type}"
    return [Finding("stored-types", f"{computes}, stored are {some(sorted(wrong))}")]


def lint_bytes(graph: ModelProto, payload: Path) -> list[Finding]:
    """Every initializer lies in ``model.onnx.data``, whole, and nothing lies behind the last."""
    weights = payload / ONNX_WEIGHTS
    length = weights.stat().st_size if weights.is_file() else 0
    wrong, end = [], 0
    for name, tensor in _tensors(graph).items():
        place = _place(tensor)
        end = max(end, sum(place or ()))
        width = _WIDTHS.get(TensorProto.DataType.Name(tensor.data_type), 0)
        if (
            place is None
            or place[1] != math.prod(tensor.dims) * width
            or place[0] + place[1] > length
        ):
            wrong.append(name)
    if wrong:
        what = f"{ONNX_WEIGHTS} ({length} bytes) does not hold what the graph places there: "
        return [Finding("incomplete-weights", what + some(sorted(wrong)))]
    if end != length:
        what = f"{ONNX_WEIGHTS} has {length} bytes, the graph knows of {end}"
        return [Finding("unknown-weights", what)]
    return []


def mapped_matrices(graph: ModelProto, payload: Path) -> Iterator[Matrix]:
    """The weights of products and look-ups, mapped; `lint_bytes` must have found nothing."""
    data = np.memmap(payload / ONNX_WEIGHTS, dtype=np.uint8, mode="r")
    tensors = _tensors(graph)
    packed = {node.input[1] for node in _nodes(graph, "MatMulNBits")}
    plain = {node.input[1] for node in _nodes(graph, "MatMul")}
    plain |= {node.input[0] for node in _nodes(graph, "Gather")}
    for name, tensor in tensors.items():
        kind = TensorProto.DataType.Name(tensor.data_type)
        offset, length = _place(tensor) or (0, 0)
        stored = data[offset : offset + length]
        if name in packed:
            yield Matrix(name, stored.reshape(tensor.dims[0], -1), _BITS)
        elif name in plain and kind in _NUMPY and len(tensor.dims) == 2:
            dtype = np.dtype(_NUMPY[kind])
            values = np.frombuffer(stored, dtype=dtype).reshape(tuple(tensor.dims))
            yield Matrix(name, values, 8 * dtype.itemsize)


def _tensors(graph: ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for part in _graphs(graph) for tensor in part.initializer}


def _place(tensor: TensorProto) -> tuple[int, int] | None:
    """Offset and length in the weights' file; None: it lies elsewhere."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    if where.get("location") != ONNX_WEIGHTS:
        return None
    return int(where.get("offset", "0")), int(where.get("length", "0"))


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
