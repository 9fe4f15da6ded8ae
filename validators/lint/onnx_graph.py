"""Lint a stored ONNX Runtime GenAI build against the options of its variant.

Needs the package ``onnx``, which the runtime ``onnx_genai`` needs too. Only the graph is loaded;
weights stay where they are. Operators: the ONNX specification and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from phiforge.artifact.payload_files import GENAI_CONFIG, ONNX_GRAPH, ONNX_WEIGHTS
from phiforge.artifact.record import RecordError, read_record
from phiforge.receipts.receipt import Failure
from validators.contract import ArtifactError, some
from validators.lint.providers import IR_VERSION, OPSETS, PROVIDERS, Provider
from validators.lint.unknown_bytes import lint_unknown_bytes

TOOLCHAIN = ("onnx",)

_BITS = 4
_WIDTHS = {"FLOAT": 4, "FLOAT16": 2, "UINT8": 1, "INT64": 8, "INT32": 4}


def read_graph(payload: Path) -> ModelProto:
    """Read the graph of a build without its weights.

    Raises:
        ArtifactError: ``unreadable-graph``.
    """
    try:
        return onnx.load(str(payload / ONNX_GRAPH), load_external_data=False)
    except Exception as error:  # protobuf's own classes, which differ by its implementation
        raise ArtifactError("unreadable-graph", f"{ONNX_GRAPH}: {error}") from None


def lint_graph(graph: ModelProto, options: Mapping[str, Any]) -> list[Failure]:
    """Compare operators, opsets and stored types with the options of converter ``onnx_genai``.

    Args:
        options: as `converters.onnx_genai.options` describes them.
    """
    name = options["execution_provider"]
    provider = PROVIDERS[name]
    return [
        *_lint_opsets(graph),
        *_lint_operators(graph, provider, name),
        *_lint_attention(graph, provider, name),
        *_lint_norms(graph, provider, name),
        *_lint_matrices(graph, options),
        *_lint_types(graph, provider, name),
    ]


def lint_config(payload: Path, options: Mapping[str, Any]) -> list[Failure]:
    """Check that ``genai_config.json`` names the graph, the provider, and options it knows."""
    try:
        decoder = read_record(payload / GENAI_CONFIG)["model"]["decoder"]
        entries = decoder["session_options"]["provider_options"]
        stated = [(name, set(given)) for entry in entries for name, given in entry.items()]
    except (RecordError, KeyError, TypeError, AttributeError) as error:
        return [Failure("unreadable-config", f"{GENAI_CONFIG}: {error!r}")]
    name = options["execution_provider"]
    wanted = [] if name == "cpu" else [name]
    names = [provider for provider, _ in stated]
    found = []
    if names != wanted:
        what = f"{GENAI_CONFIG} asks for {names}, the variant for {wanted}"
        found.append(Failure("wrong-provider", what))
    unknown = sorted(set().union(*(given for _, given in stated)) - PROVIDERS[name].options)
    if unknown and not found:
        what = f"{GENAI_CONFIG} gives {name} options that do not belong there: {some(unknown)}"
        found.append(Failure("provider-options", what))
    if decoder.get("filename") != ONNX_GRAPH:
        what = f"{GENAI_CONFIG} names the graph {decoder.get('filename')!r}, it is {ONNX_GRAPH}"
        found.append(Failure("wrong-graph", what))
    return found


def _lint_opsets(graph: ModelProto) -> Iterator[Failure]:
    wrong = [
        f"{opset.domain or 'ai.onnx'} {opset.version}"
        for opset in graph.opset_import
        if opset.version > OPSETS.get(opset.domain, 0)
    ]
    if graph.ir_version > IR_VERSION:
        wrong.append(f"IR version {graph.ir_version}")
    if wrong:
        known = ", ".join(f"{name or 'ai.onnx'} {version}" for name, version in OPSETS.items())
        what = f"the device's runtime knows {known} and IR version {IR_VERSION}, the graph has "
        yield Failure("opset", what + some(wrong))


def graphs_of(graph: ModelProto) -> list[GraphProto]:
    """Return the graph and those in its nodes' attributes (branches of ``If``)."""
    found = [graph.graph]
    for part in found:  # grows on the way
        found += [entry.g for node in part.node for entry in node.attribute if entry.HasField("g")]
    return found


def nodes_of(graph: ModelProto, operator: str | None = None) -> list[NodeProto]:
    """Return every node, those of subgraphs included, or those of one operator."""
    nodes = [node for part in graphs_of(graph) for node in part.node]
    return [node for node in nodes if operator in (None, node.op_type)]


def _lint_operators(graph: ModelProto, provider: Provider, name: str) -> Iterator[Failure]:
    # ONNX has "" and "ai.onnx" for the same domain
    used = {(node.domain.removeprefix("ai.onnx"), node.op_type) for node in nodes_of(graph)}
    unknown = sorted(
        f"{domain or 'ai.onnx'}.{operator}"
        for domain, operator in used
        if operator not in provider.operators.get(domain, ())
    )
    if unknown:
        yield Failure("unknown-operator", f"{name} is not known to run {some(unknown)}")


def _lint_attention(graph: ModelProto, provider: Provider, name: str) -> Iterator[Failure]:
    wrong = set()
    for node in nodes_of(graph, "GroupQueryAttention"):
        given = attributes_of(node)
        for key, value in provider.attention_needs.items():
            if given.get(key, value) != value:
                wrong.add(f"{key} {given[key]}")
        if provider.attention_inputs is None:
            continue
        if not all(node.input[1:3]):
            wrong.add("query, key and value in one input")
        extra = node.input[provider.attention_inputs :]
        wrong.update(f"input {value}" for value in extra if value)
    if wrong:
        what = f"{name}'s GroupQueryAttention ignores or refuses {some(sorted(wrong))}"
        yield Failure("attention-form", what)


def _lint_norms(graph: ModelProto, provider: Provider, name: str) -> Iterator[Failure]:
    if provider.skip_norm_inputs is None:
        return
    for node in nodes_of(graph, "SkipSimplifiedLayerNormalization"):
        if any(node.input[provider.skip_norm_inputs :]):
            what = f"{name} adds the bias of {node.name} after the norm"
            yield Failure("norm-form", what)
            return


def _lint_matrices(graph: ModelProto, options: Mapping[str, Any]) -> Iterator[Failure]:
    tensors = initializers(graph)
    quantized = nodes_of(graph, "MatMulNBits")
    plain = [node for node in nodes_of(graph, "MatMul") if node.input[1] in tensors]
    if options["precision"] == "fp16":
        if quantized or not plain:
            of = len(quantized) + len(plain)
            what = f"float matrices are declared, {len(quantized)} of {of} are quantized"
            yield Failure("stored-types", what)
    elif plain or not quantized:
        names = some([node.name for node in plain])
        what = f"INT4 matrices are declared, {len(plain)} are float: {names}"
        yield Failure("stored-types", what)
    else:
        yield from _lint_quantized(quantized, tensors, options)


def _lint_quantized(
    nodes: list[NodeProto], tensors: Mapping[str, TensorProto], options: Mapping[str, Any]
) -> Iterator[Failure]:
    block, level = options.get("block_size", 32), options.get("accuracy_level", 0)
    head = 8 if options.get("matmul_mixed_precision") else _BITS
    # onnxruntime's k_quant gives zero points whatever is_symmetric says
    symmetric = options.get("is_symmetric", True) and options.get("algo_config") != "k_quant"
    provider = PROVIDERS[options["execution_provider"]]
    reads = provider.matmul_inputs
    form, asymmetric, shapes = set(), [], []
    for node in nodes:
        given = attributes_of(node)
        bits = head if node is nodes[-1] else _BITS
        declared = {"bits": bits, "block_size": block, "accuracy_level": level}
        stored = {key: given.get(key, 0) for key in declared}
        form |= {f"{key} {value}" for key, value in stored.items() if value != declared[key]}
        form |= {f"input {value}" for value in node.input[reads:] if reads and value}
        if symmetric and any(node.input[3:4]):
            asymmetric.append(node.name)
        blocks = math.ceil(int(given.get("K", 0)) / block)
        if provider.whole_blocks and given.get("K", 0) % block:
            form.add(f"K {given['K']}")
        codes, scales = (tensors.get(name) for name in node.input[1:3])
        if (
            codes is None
            or scales is None
            or list(codes.dims) != [given.get("N"), blocks, block * bits // 8]
            or math.prod(scales.dims) != given.get("N", 0) * blocks
        ):
            shapes.append(node.name)
    if form:
        of = f"{_BITS} bits" if head == _BITS else f"{_BITS} bits, {head} of the LM head,"
        what = f"{of} in blocks of {block}, accuracy level {level} are declared"
        yield Failure("block-form", f"{what}, MatMulNBits has {some(sorted(form))}")
    if asymmetric:
        what = f"INT4 weights with zero points, symmetric ones are declared: {some(asymmetric)}"
        yield Failure("asymmetric-weights", what)
    if shapes and not form:
        what = f"codes or scales do not have the shape of their MatMulNBits: {some(shapes)}"
        yield Failure("block-form", what)


def _lint_types(graph: ModelProto, provider: Provider, name: str) -> Iterator[Failure]:
    quantized = nodes_of(graph, "MatMulNBits")
    codes = {node.input[1] for node in quantized}
    zero_points = {value for node in quantized for value in node.input[3:4]}
    wrong = []
    for tensor_name, tensor in initializers(graph).items():
        kind = TensorProto.DataType.Name(tensor.data_type)
        allowed = {"UINT8"} if tensor_name in codes else {provider.float_type}
        if tensor_name in zero_points:
            allowed = {"UINT8", provider.float_type} & provider.zero_points
        if kind not in allowed:
            wrong.append(f"{tensor_name} {kind}")
    if wrong:
        what = f"{name} computes in {provider.float_type}, stored are {some(sorted(wrong))}"
        yield Failure("stored-types", what)


def lint_bytes(graph: ModelProto, payload: Path) -> list[Failure]:
    """Check that ``model.onnx.data`` holds every initializer and nothing else."""
    weights = payload / ONNX_WEIGHTS
    length = weights.stat().st_size if weights.is_file() else 0
    wrong, places = [], []
    for name, tensor in initializers(graph).items():
        place = place_of(tensor)
        width = _WIDTHS.get(TensorProto.DataType.Name(tensor.data_type), 0)
        if (
            place is None
            or place[1] != math.prod(tensor.dims) * width
            or place[0] + place[1] > length
        ):
            wrong.append(name)
        else:
            places.append(place)
    if wrong:
        what = f"{ONNX_WEIGHTS} ({length} bytes) does not hold what the graph places there: "
        return [Failure("incomplete-weights", what + some(sorted(wrong)))]
    return lint_unknown_bytes(places, weights)


def initializers(graph: ModelProto) -> dict[str, TensorProto]:
    return {tensor.name: tensor for part in graphs_of(graph) for tensor in part.initializer}


def place_of(tensor: TensorProto) -> tuple[int, int] | None:
    """Return offset and length in the weights' file; None: it is in another, or in the graph."""
    where = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_location != TensorProto.EXTERNAL or where.get("location") != ONNX_WEIGHTS:
        return None
    return int(where.get("offset", "0")), int(where.get("length", "0"))


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}
