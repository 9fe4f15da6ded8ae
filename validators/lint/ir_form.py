"""Hold an OpenVINO IR to the form of a Phi-3."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from phiforge.receipts.receipt import Failure
from validators.lint.architecture import Architecture
from validators.lint.graph_form import Form, Step, lint_form, unread
from validators.lint.ir_weights import Operand, operand
from validators.lint.openvino_ir import Ir, Layer
from validators.lint.rope import rope_of

Output: TypeAlias = tuple[str, int]
"""A layer's id, and the port."""

_SMALL = 64  # bytes of a constant that belongs to the form; weights and tables are larger
_LAYER = frozenset(
    {
        "Add", "Assign", "Broadcast", "Concat", "Divide", "MatMul", "Multiply", "Power",
        "ReduceMean", "Reshape", "ScaledDotProductAttention", "Slice", "Sqrt", "Swish",
        "Transpose", "Unsqueeze", "VariadicSplit",
    }
)  # fmt: skip
_SHARED = frozenset(
    {
        "Add", "BitwiseAnd", "Broadcast", "Concat", "Const", "Convert", "Cos", "Divide", "Gather",
        "Greater", "LessEqual", "MatMul", "Mod", "Multiply", "Parameter", "Power", "Range",
        "ReadValue", "ReduceMax", "ReduceProd", "Reshape", "Select", "ShapeOf", "Sin", "Split",
        "Squeeze", "Subtract", "Transpose", "Unsqueeze",
    }
)  # fmt: skip


def lint_ir_form(ir: Ir, data: npt.NDArray[np.uint8], architecture: Architecture) -> list[Failure]:
    """Compare an IR's operators and edges with those of a Phi-3.

    Products by stored values are passed over: norms and AWQ's scales are held to the source.

    Args:
        data: the bytes of its ``.bin`` file.
    """
    scaled: dict[str, Output] = {}  # a product by stored values, to what it scales
    for name, layer in ir.layers.items():
        if layer.type == "Multiply":
            stored = [port for port in layer.inputs if _is_stored(operand(ir, layer, port))]
            others = [origin for port, origin in layer.inputs.items() if port not in stored]
            if stored and others:
                scaled[name] = others[0]
    steps = {
        name: _step(ir, layer, scaled, data)
        for name, layer in ir.layers.items()
        if name not in scaled
    }
    read = {origin for layer in ir.layers.values() for origin, _ in layer.inputs.values()}
    ends = [layer for name, layer in ir.layers.items() if name not in read]
    idle = [layer.name for layer in ends if layer.type not in ("Result", "Assign")]
    return unread(idle) + lint_form(steps, _form(architecture), architecture)


def _form(architecture: Architecture) -> Form:
    """The operators that optimum-intel traces; a window and LongRoPE add some that decide."""
    rope, window = rope_of(architecture), architecture.config.get("sliding_window") is not None
    long = rope is not None and rope.beyond is not None
    counted = {
        "BitwiseAnd": 2 + 2 * window, "Divide": 1, "Greater": 1 + window + long, "LessEqual": 1,
        "MatMul": 1, "Mod": 1, "Power": int(long), "ReduceMax": int(long), "Select": 1 + long,
    }  # fmt: skip
    return Form(_LAYER, _SHARED, counted, frozenset({"Result"}))


def _step(
    ir: Ir, layer: Layer, scaled: dict[str, Output], data: npt.NDArray[np.uint8]
) -> Step[str]:
    if layer.constant is not None:
        one = layer.constant
        value = data[one.offset : one.offset + one.size].tobytes() if one.size <= _SMALL else b""
        return Step("Const", f"{one.type} {one.shape} {value.hex()}", ())
    ports = dict(sorted(layer.inputs.items()))
    embeds = layer.type == "Gather" and _is_stored(operand(ir, layer, 0))
    multiplies = layer.type == "MatMul" and operand(ir, layer, 1) is not None
    if embeds or multiplies:
        del ports[0 if embeds else 1]
    attributes: Any = sorted(layer.attributes.items())
    return Step(
        layer.type,
        f"{attributes} {list(ports)}",
        tuple(_unscaled(origin, scaled) for origin in ports.values()),
        embeds=embeds,
        multiplies=multiplies,
        sizes=layer.type == "ShapeOf",
    )


def _is_stored(found: Operand | None) -> bool:
    return found is not None and int(np.prod(found.values.shape)) > 1


def _unscaled(origin: Output, scaled: Mapping[str, Output]) -> Output:
    return _unscaled(scaled[origin[0]], scaled) if origin[0] in scaled else origin
