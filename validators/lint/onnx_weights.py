"""Find an ONNX graph's weights by its edges: what each product, norm and look-up reads."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto

from phiforge.artifact.payload_files import ONNX_WEIGHTS
from phiforge.receipts.receipt import Failure
from validators.contract import ArtifactError
from validators.lint.architecture import (
    EMBEDDING,
    NORM,
    OTHER_GRAPH,
    Architecture,
    Part,
    Place,
    in_order,
    lint_places,
)
from validators.lint.onnx_graph import attributes_of, initializers, place_of
from validators.lint.weights import Codes, Scheme, Stored, unpacked

Array = npt.NDArray[Any]

_NUMPY = {"FLOAT": np.float32, "FLOAT16": np.float16, "UINT8": np.uint8}
_SYMMETRIC = {
    4: Scheme(-8, 7, steps=8, rounded_after=False),
    8: Scheme(-128, 127, steps=128, rounded_after=False),
}
_ASYMMETRIC = {
    4: Scheme(0, 15, steps=15, zero_points=True, rounded_after=False),
    8: Scheme(0, 255, steps=255, zero_points=True, rounded_after=False),
}
_NORMS = {"SimplifiedLayerNormalization": 1, "SkipSimplifiedLayerNormalization": 2}
"""Operator to the input that holds its weight."""
_ATTENTION = ("q_proj", "k_proj", "v_proj")
_ON_THE_WAY = frozenset({"RotaryEmbedding", "Reshape", "Transpose", "Cast"})


def find_weights(
    graph: ModelProto, payload: Path, architecture: Architecture, *, searched: bool
) -> tuple[list[Stored], list[Failure]]:
    """Map every weight that the graph computes with, and say where it is not the model's graph.

    `onnx_graph.lint_bytes` must have found nothing.

    Args:
        searched: the scales were searched, as all algorithms but onnxruntime's default do.

    Raises:
        ArtifactError: ``other-graph``.
    """
    data: Array = np.memmap(payload / ONNX_WEIGHTS, dtype=np.uint8, mode="r")
    tensors = initializers(graph)
    used = list(_walk(graph, tensors, architecture))
    failures = lint_places(architecture.parts, [place for place, _ in used])
    stored = [
        _stored(place, part, node, tensors, data, architecture.columns(place), searched)
        for place, node in used
        if (part := architecture.parts.get(place)) is not None
    ]
    return stored, failures


def _walk(
    graph: ModelProto, tensors: Mapping[str, TensorProto], architecture: Architecture
) -> Iterator[tuple[Place, NodeProto]]:
    """Yield each node that reads a weight, with its place on the way from tokens to logits."""
    nodes = list(graph.graph.node)
    origin = {value: index for index, node in enumerate(nodes) for value in node.output if value}
    edges = {
        index: {origin[value] for value in node.input if value in origin}
        for index, node in enumerate(nodes)
    }
    depths: dict[int, int] = {}
    for index in in_order(edges):
        node = nodes[index]
        depth = max((depths[one] for one in edges[index]), default=-1)
        if node.op_type == "Gather" and len(_dims(node.input[0], tensors)) == 2:
            yield Place(EMBEDDING, 0), node
            depth = 0
        elif node.op_type in _NORMS:
            yield Place(NORM, depth), node
        elif node.op_type in ("MatMul", "MatMulNBits") and depth >= 0:
            if node.input[1] not in tensors:
                raise ArtifactError(OTHER_GRAPH, f"{node.name} has no stored matrix")
            yield Place(_kind(node, nodes, architecture.product(depth)), depth), node
            depth += 1
        depths[index] = depth


def _kind(product: NodeProto, nodes: list[NodeProto], kind: str) -> str:
    """Which member of a fused matrix a product is, by what reads its result."""
    if kind == "qkv_proj":
        for attention, index in _readers(product.output[0], nodes):
            if attention.op_type == "GroupQueryAttention" and any(attention.input[1:3]):
                return _ATTENTION[index] if index < len(_ATTENTION) else kind
    elif kind == "gate_up_proj":
        readers = {reader.op_type for reader, _ in _readers(product.output[0], nodes)}
        if not readers & {"Split", "Slice"}:
            return "gate_proj" if "Sigmoid" in readers else "up_proj"
    return kind


def _readers(value: str, nodes: list[NodeProto]) -> Iterator[tuple[NodeProto, int]]:
    """Yield what reads a value, past what only turns it, and as which of its inputs."""
    for node in nodes:
        for index, name in enumerate(node.input):
            if name == value:
                if node.op_type in _ON_THE_WAY and index == 0:
                    yield from _readers(node.output[0], nodes)
                else:
                    yield node, index


def _stored(
    place: Place,
    part: Part,
    node: NodeProto,
    tensors: Mapping[str, TensorProto],
    data: Array,
    columns: int,
    searched: bool,
) -> Stored:
    failure = {EMBEDDING: "other-embedding", NORM: "other-norms"}.get(place.kind, "other-weights")
    if node.op_type == "MatMulNBits":
        return _quantized(part, node, tensors, data, columns, searched)
    position = _NORMS.get(node.op_type, 0 if node.op_type == "Gather" else 1)
    values = _array(node.input[position], tensors, data)
    if node.op_type == "MatMul":
        values = values.T
    if values.size != part.rows * columns or values.shape[-1] != columns:
        raise _other_shape(part, values.shape, columns)
    rows = values.reshape(part.rows, columns) if values.ndim == 1 else values
    return Stored(part, columns, lambda chosen: rows[chosen], failure=failure)


def _quantized(
    part: Part,
    node: NodeProto,
    tensors: Mapping[str, TensorProto],
    data: Array,
    columns: int,
    searched: bool,
) -> Stored:
    given = attributes_of(node)
    size, bits = int(given["block_size"]), int(given["bits"])
    blocks = -(-columns // size)
    codes = _array(node.input[1], tensors, data)
    if (given["N"], given["K"]) != (part.rows, columns) or codes.size * 8 != (
        part.rows * blocks * size * bits
    ):
        raise _other_shape(part, (given["N"], given["K"]), columns)
    if columns % size:
        raise ArtifactError(OTHER_GRAPH, f"{part.name}: {columns} columns in blocks of {size}")
    codes = codes.reshape(part.rows, -1)
    scales = _array(node.input[2], tensors, data).reshape(part.rows, blocks, 1)
    zeros = None
    if len(node.input) > 3 and node.input[3]:
        packed = _array(node.input[3], tensors, data).reshape(part.rows, -1)
        zeros = (unpacked(packed) if bits == 4 else packed)[:, :blocks, None]
    cast = np.float16 if scales.dtype == np.float16 else None
    rounding = (_SYMMETRIC if zeros is None else _ASYMMETRIC)[bits]
    scheme = replace(rounding, cast=cast, searched=searched)

    def read(rows: slice) -> Codes:
        points = None if zeros is None else zeros[rows]
        excess = -rounding.least
        return Codes(codes[rows], scales[rows], points, four_bits=bits == 4, excess=excess)

    return Stored(part, columns, read, scheme)


def _other_shape(part: Part, shape: tuple[int, ...], columns: int) -> ArtifactError:
    what = f"{part.name} has shape {list(shape)}, not {[part.rows, columns]}"
    return ArtifactError(OTHER_GRAPH, what)


def _dims(name: str, tensors: Mapping[str, TensorProto]) -> list[int]:
    return list(tensors[name].dims) if name in tensors else []


def _array(name: str, tensors: Mapping[str, TensorProto], data: Array) -> Array:
    """The values of an initializer, mapped."""
    tensor = tensors.get(name)
    kind = "" if tensor is None else TensorProto.DataType.Name(tensor.data_type)
    if tensor is None or kind not in _NUMPY:
        raise ArtifactError(OTHER_GRAPH, f"{name} is no initializer of a known type")
    offset, length = place_of(tensor) or (0, 0)
    values = np.frombuffer(data[offset : offset + length], dtype=_NUMPY[kind])
    return values.reshape(tuple(tensor.dims))
