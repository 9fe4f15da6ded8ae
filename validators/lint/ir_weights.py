"""Find an IR's weights by its edges: from each product of matrices back to its constants."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
from validators.lint.openvino_ir import Constant, Ir, Layer
from validators.lint.weights import Codes, Scheme, Stored, unpacked

Bytes = npt.NDArray[np.uint8]

_LEAST = 2.0**-23  # nncf's smallest scale
SCHEMES: Mapping[str, Scheme] = {
    "i4": Scheme(-8, 7, steps=8, least_scale=_LEAST),
    "i8": Scheme(-128, 127, steps=128, least_scale=_LEAST),
    "u4": Scheme(0, 15, steps=15, zero_points=True, least_scale=_LEAST),
    "u8": Scheme(0, 255, steps=255, zero_points=True, least_scale=_LEAST),
    "nf4": Scheme(0, 15, steps=1, levels=True, least_scale=_LEAST),
}
"""What nncf makes of each type: ``weight_compression/weight_lowering.py``."""
_NUMPY = {"f32": np.float32, "f16": np.float16, "u8": np.uint8, "i8": np.int8}
_OUTSIDE = -1  # depth of what does not hang on the tokens' embedding


@dataclass
class Operand:
    """The constants behind one operand."""

    values: Constant
    scale: Constant | None = None
    zero_point: Constant | None = None


@dataclass
class _Found:
    weights: dict[Place, Operand] = field(default_factory=dict)
    used: list[Place] = field(default_factory=list)
    channels: dict[int, Constant] = field(default_factory=dict)
    """By depth of the product whose input they scale."""
    wrong: list[str] = field(default_factory=list)


def find_weights(
    ir: Ir, weights: Path, architecture: Architecture
) -> tuple[list[Stored], list[Failure]]:
    """Map every weight that the graph computes with, and say where it is not the model's graph.

    Args:
        weights: the ``.bin`` file, of which `openvino_ir.lint_bytes` must have found no lack.

    Raises:
        ArtifactError: ``other-graph``.
    """
    found = _walk(ir, architecture)
    if found.wrong:
        raise ArtifactError(OTHER_GRAPH, "; ".join(found.wrong[:3]))
    expected = architecture.parts
    failures = lint_places(expected, found.used)
    data: Bytes = np.memmap(weights, dtype=np.uint8, mode="r")
    stored = []
    for place, weight in found.weights.items():
        part = expected.get(place)
        if part is not None:
            columns = architecture.columns(place)
            channels = found.channels.get(place.depth) if place.kind != NORM else None
            stored.append(_stored(place, part, columns, weight, channels, data))
    return stored, failures


def _walk(ir: Ir, architecture: Architecture) -> _Found:
    """Follow the data from the tokens to the logits, counting the products on the way."""
    found, depths = _Found(), dict[str, int]()
    edges = {name: [one for one, _ in layer.inputs.values()] for name, layer in ir.layers.items()}
    for name in in_order(edges):
        layer = ir.layers[name]
        depth = max((depths[one] for one in edges[name]), default=_OUTSIDE)
        visit = _VISITS.get(layer.type)
        depths[name] = visit(ir, layer, depth, architecture, found) if visit else depth
    return found


def _visit_gather(
    ir: Ir, layer: Layer, depth: int, architecture: Architecture, found: _Found
) -> int:
    weight = operand(ir, layer, 0)
    if weight is None or len(weight.values.shape) < 2:
        return depth
    found.used.append(Place(EMBEDDING, 0))
    found.weights[Place(EMBEDDING, 0)] = weight
    return 0


def _visit_matmul(
    ir: Ir, layer: Layer, depth: int, architecture: Architecture, found: _Found
) -> int:
    if depth == _OUTSIDE:
        return depth  # of positions and frequencies
    place = Place(architecture.product(depth), depth)
    weight = operand(ir, layer, 1)
    if weight is None or layer.attributes.get("transpose_a") == "true":
        found.wrong.append(f"{place} has no stored matrix")
    elif layer.attributes.get("transpose_b") != "true":
        found.wrong.append(f"{place} has its matrix the other way round")
    else:
        found.used.append(place)
        found.weights[place] = weight
    return depth + 1


def _visit_multiply(
    ir: Ir, layer: Layer, depth: int, architecture: Architecture, found: _Found
) -> int:
    if depth == _OUTSIDE:
        return depth
    for port in layer.inputs:
        weight = operand(ir, layer, port)
        size = 1 if weight is None else int(np.prod(weight.values.shape))
        if weight is None or size == 1:
            continue
        place = Place(NORM, depth)
        if weight.scale is None and place in architecture.parts:
            found.used.append(place)
            found.weights[place] = weight
        elif weight.scale is None and depth not in found.channels:
            found.channels[depth] = weight.values
        else:
            found.wrong.append(f"a product by {weight.values.name} that the model does not have")
    return depth


_VISITS: Mapping[str, Callable[[Ir, Layer, int, Architecture, _Found], int]] = {
    "Gather": _visit_gather,
    "MatMul": _visit_matmul,
    "Multiply": _visit_multiply,
}


def operand(ir: Ir, layer: Layer, port: int) -> Operand | None:
    """Find the constants behind an input: values, minus zero points, times scales, as nncf has it.

    None: it is computed.
    """
    if port not in layer.inputs:
        return None
    origin = ir.layers[layer.inputs[port][0]]
    if origin.constant is not None:
        return Operand(origin.constant)
    if origin.type not in ("Convert", "Reshape", "Subtract", "Multiply"):
        return None
    inner = operand(ir, origin, 0)
    if inner is None or origin.type in ("Convert", "Reshape"):
        return inner
    beside = operand(ir, origin, 1)
    if beside is None or beside.scale or beside.zero_point or inner.scale:
        return None
    if origin.type == "Subtract":
        return None if inner.zero_point else Operand(inner.values, None, beside.values)
    return Operand(inner.values, beside.values, inner.zero_point)


def _stored(
    place: Place,
    part: Part,
    columns: int,
    weight: Operand,
    channels: Constant | None,
    data: Bytes,
) -> Stored:
    constant = weight.values
    count = int(np.prod(constant.shape))
    if count != part.rows * columns:
        what = f"{part.name} has shape {list(constant.shape)}, not {[part.rows, columns]}"
        raise ArtifactError(OTHER_GRAPH, what)
    failure = {EMBEDDING: "other-embedding", NORM: "other-norms"}.get(place.kind, "other-weights")
    scales = None if channels is None else _array(channels, data).reshape(-1)
    if constant.type not in SCHEMES:
        values = _array(constant, data).reshape(part.rows, columns)
        return Stored(part, columns, lambda rows: values[rows], failure=failure)
    scheme = SCHEMES[constant.type]
    if weight.scale is None or scheme.zero_points != (weight.zero_point is not None):
        what = f"{part.name} is {constant.type} and has not the scales and zero points of it"
        raise ArtifactError(OTHER_GRAPH, what)
    read = _reader(part, constant, weight.scale, weight.zero_point, data)
    return Stored(part, columns, read, scheme, scales, failure)


def _reader(
    part: Part, values: Constant, scale: Constant, zero_point: Constant | None, data: Bytes
) -> Callable[[slice], Codes]:
    four_bits = values.type in ("i4", "u4", "nf4")
    stored = data[values.offset : values.offset + values.size].reshape(part.rows, -1)
    scales = _array(scale, data).reshape(part.rows, -1, 1)
    zeros = None if zero_point is None else _array(zero_point, data).reshape(part.rows, -1, 1)
    codes = stored.view(np.int8) if values.type == "i8" else stored

    def read(rows: slice) -> Codes:
        points = None if zeros is None else zeros[rows]
        signed = values.type == "i4"
        return Codes(codes[rows], scales[rows], points, four_bits=four_bits, signed=signed)

    return read


def _array(constant: Constant, data: Bytes) -> npt.NDArray[Any]:
    """A constant's values, mapped unless they are of 4 bits."""
    stored = data[constant.offset : constant.offset + constant.size]
    if constant.type == "u4":
        return unpacked(stored).reshape(constant.shape)
    if constant.type not in _NUMPY:
        raise ArtifactError(OTHER_GRAPH, f"{constant.name} is of type {constant.type}")
    return np.frombuffer(stored, dtype=_NUMPY[constant.type]).reshape(constant.shape)
