"""Hold a graph's constants to what the source's configuration makes of them, by formula."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from phiforge.receipts.receipt import Failure
from validators.contract import some
from validators.lint.architecture import Architecture
from validators.lint.openvino_ir import Constant, Ir, Layer

Array = npt.NDArray[Any]

_FLOAT32 = 2.0**-20  # a few roundings, as a share
_HALF = 2.0**-11
_NUMPY = {"f32": np.float32, "f16": np.float16, "i64": np.int64, "i32": np.int32}


def inverse_frequencies(architecture: Architecture) -> Array | None:
    """RoPE's, shape (rotated dimensions / 2); None: LongRoPE, which has no single formula here."""
    config = architecture.config
    if config.get("rope_scaling"):
        return None
    dimensions = int(architecture.head_size * config.get("partial_rotary_factor", 1.0))
    exponents = np.arange(0, dimensions, 2, dtype=np.float64) / dimensions
    return np.asarray(float(config.get("rope_theta", 10000.0)) ** -exponents)


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


def lint_cache(name: str, values: Array, architecture: Architecture) -> list[Failure]:
    """Compare a cache of cosines or sines with the formula, over its whole length.

    Args:
        name: ``cos_cache`` or ``sin_cache``.
        values: shape (positions, rotated dimensions / 2).
    """
    frequencies = inverse_frequencies(architecture)
    if frequencies is None:
        return []
    length = int(architecture.config["max_position_embeddings"])
    if values.shape != (length, len(frequencies)):
        what = f"{name} has shape {list(values.shape)}, not {[length, len(frequencies)]}"
        return [Failure("other-rope", what)]
    positions = np.arange(length, dtype=np.float64)[:, None]
    angles = positions * frequencies
    exact = np.cos(angles) if name.startswith("cos") else np.sin(angles)
    # float32's angles are off by a share of the position
    right = np.abs(values - exact) <= angles * 2.0**-21 + (_HALF if values.itemsize == 2 else 1e-6)
    rows = np.flatnonzero(~right.all(axis=1))
    if not len(rows):
        return []
    what = f"{name} is not RoPE's at {len(rows)} of {length} positions, first {rows[0]}"
    return [Failure("other-rope", what)]


def lint_ir_constants(ir: Ir, data: Array, architecture: Architecture) -> list[Failure]:
    """Compare an IR's frequencies, epsilons, attention scales and window."""
    config = architecture.config
    frequencies: list[Array] = []
    scales: list[float | None] = []
    windows: list[float | None] = []
    epsilons: list[float | None] = []
    for layer in ir.layers.values():
        if layer.type == "MatMul" and (constant := _constant(ir, layer, 0)):
            frequencies.append(_values(constant, data))
        elif layer.type == "ScaledDotProductAttention":
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
    expected = inverse_frequencies(architecture)
    if expected is not None and not (
        len(frequencies) == 1
        and frequencies[0].shape == expected.shape
        and bool((np.abs(frequencies[0] - expected) <= expected * _FLOAT32).all())
    ):
        found.append(Failure("other-rope", "RoPE's inverse frequencies are not the source's"))
    return found


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
