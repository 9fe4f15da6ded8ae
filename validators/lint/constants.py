"""Hold a graph's constants to what the source's configuration makes of them, by formula."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from phiforge.receipts.receipt import Failure
from validators.contract import some
from validators.lint.architecture import Architecture
from validators.lint.openvino_ir import Constant, Ir, Layer
from validators.lint.rope import OTHER_ROPE, Rope, close, rope_of

Array = npt.NDArray[Any]

_FLOAT32 = 2.0**-20  # a few roundings, as a share
_NUMPY = {"f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32}


def attention_scale(architecture: Architecture) -> float:
    """What the products of queries and keys are multiplied by."""
    return 1 / math.sqrt(architecture.head_size)


def compare(failure: str, what: str, found: Iterable[float | None], expected: Any) -> list[Failure]:
    """Name the values of ``found`` that are not ``expected``; None: there is no such value."""
    wrong = sorted({str(one) for one in found if not _same(one, expected)})
    if not wrong:
        return []
    return [Failure(failure, f"{what} is {expected} by the source, the graph has {some(wrong)}")]


def _same(found: float | None, expected: Any) -> bool:
    if found is None or expected is None:
        return found is expected
    return bool(abs(found - expected) <= abs(expected) * _FLOAT32)


def lint_ir_constants(ir: Ir, data: Array, architecture: Architecture) -> list[Failure]:
    """Compare an IR's frequencies, epsilons, attention scales and window."""
    config = architecture.config
    scales: list[float | None] = []
    windows: list[float | None] = []
    epsilons: list[float | None] = []
    for layer in ir.layers.values():
        if layer.type == "ScaledDotProductAttention":
            scale = _constant(ir, layer, 4)
            scales.append(float(_values(scale, data)[0]) if scale else None)
        elif layer.type == "Add" and _reads(ir, layer, "ReduceMean"):
            epsilons += [float(one) for one in _scalars(ir, layer, data)]
        elif layer.type == "Greater":
            for origin, _ in layer.inputs.values():
                # the window is counted back; LongRoPE's switch compares a length, one further on
                if ir.layers[origin].type == "Add":
                    back = _scalars(ir, ir.layers[origin], data)
                    windows += [-float(one) for one in back if one < 0]
    found = compare(
        "other-attention-scale", "attention scale", scales, attention_scale(architecture)
    )
    found += compare("other-epsilon", "norm epsilon", epsilons or [None], config["rms_norm_eps"])
    window = config.get("sliding_window")
    if "layer_types" not in config:
        found += compare("other-window", "sliding window", windows or [None], window)

    def values(layer: Layer, port: int) -> Array | None:
        constant = _constant(ir, layer, port)
        return None if constant is None else _values(constant, data)

    return found + _lint_rope(ir, values, architecture)


def _lint_rope(
    ir: Ir, values: Callable[[Layer, int], Array | None], architecture: Architecture
) -> list[Failure]:
    """Compare the frequencies, LongRoPE's factors, its switch and its magnitude.

    Args:
        values: layer and port to the constant that it reads there, if it reads one.
    """
    rope = rope_of(architecture)
    if rope is None:
        return []
    angles = [
        layer
        for layer in ir.layers.values()
        if layer.type == "MatMul" and _leads_to(ir, layer, ("Const", "Unsqueeze"))
    ]
    right = len(angles) == 1 and (
        close(values(angles[0], 0), rope.frequencies)
        if rope.beyond is None
        else _right_longrope(ir, values, angles[0], rope)
    )
    what = "RoPE's inverse frequencies, or LongRoPE's switch between them, are not the source's"
    found = [] if right else [Failure(OTHER_ROPE, what)]
    for layer in ir.layers.values():
        if _origin(ir, layer, 0) in ("Cos", "Sin"):
            factor = values(layer, 1) if layer.type == "Multiply" else np.ones(1)
            if not close(factor, np.asarray([rope.magnitude])):
                what = f"RoPE's {_origin(ir, layer, 0)} is not multiplied by {rope.magnitude}"
                found.append(Failure(OTHER_ROPE, what))
    return found


def _right_longrope(
    ir: Ir, values: Callable[[Layer, int], Array | None], angles: Layer, rope: Rope
) -> bool:
    """Frequencies are 1 / (factors * powers); the factors are selected by the sequence's length."""
    reciprocal = _behind(ir, angles, 0, "Unsqueeze")
    if reciprocal.type != "Power" or not close(values(reciprocal, 1), np.asarray([-1.0])):
        return False
    product = ir.layers[reciprocal.inputs[0][0]]
    chosen = ir.layers[product.inputs[0][0]]
    if product.type != "Multiply" or chosen.type != "Select":
        return False
    longer = ir.layers[chosen.inputs[0][0]]
    sequence = ir.layers[longer.inputs[0][0]]
    largest = ir.layers[sequence.inputs[0][0]]
    powers, long, short = values(product, 1), values(chosen, 1), values(chosen, 2)
    return (
        (longer.type, sequence.type, largest.type) == ("Greater", "Add", "ReduceMax")
        and close(values(sequence, 1), np.ones(1))
        and close(values(longer, 1), np.asarray([rope.switch]))
        and powers is not None
        and long is not None
        and short is not None
        and close(1 / (long * powers), rope.beyond)
        and close(1 / (short * powers), rope.frequencies)
    )


def _origin(ir: Ir, layer: Layer, port: int) -> str | None:
    return ir.layers[layer.inputs[port][0]].type if port in layer.inputs else None


def _behind(ir: Ir, layer: Layer, port: int, passed: str) -> Layer:
    """The layer whose values reach a port through layers of one type."""
    origin = ir.layers[layer.inputs[port][0]]
    return _behind(ir, origin, 0, passed) if origin.type == passed else origin


def _leads_to(ir: Ir, layer: Layer, kinds: tuple[str, ...]) -> bool:
    return _origin(ir, layer, 0) in kinds


def _constant(ir: Ir, layer: Layer, port: int) -> Constant | None:
    return ir.layers[layer.inputs[port][0]].constant if port in layer.inputs else None


def _reads(ir: Ir, layer: Layer, kind: str) -> bool:
    return any(ir.layers[origin].type == kind for origin, _ in layer.inputs.values())


def _scalars(ir: Ir, layer: Layer, data: Array) -> list[float]:
    constants = [_constant(ir, layer, port) for port in layer.inputs]
    return [_values(one, data)[0] for one in constants if one and math.prod(one.shape) == 1]


def _values(constant: Constant, data: Array) -> Array:
    stored = data[constant.offset : constant.offset + constant.size]
    return np.frombuffer(stored, dtype=_NUMPY.get(constant.type, np.uint8)).astype(np.float64)
