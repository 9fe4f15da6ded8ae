"""Hold an ONNX graph's constants to the source's configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from phiforge.artifact.payload_files import ONNX_WEIGHTS
from phiforge.receipts.receipt import Failure
from validators.lint.architecture import Architecture
from validators.lint.constants import attention_scale, compare
from validators.lint.onnx_graph import attributes_of, initializers, nodes_of, place_of
from validators.lint.rope import OTHER_ROPE, Rope, close, lint_cache, lint_caches, rope_of

Array = npt.NDArray[Any]

_NUMPY = {"FLOAT": np.float32, "FLOAT16": np.float16, "INT64": np.int64}
_CACHES = {"GroupQueryAttention": (7, 8), "RotaryEmbedding": (2, 3)}
"""Operator to the inputs that hold cosines and sines."""


def lint_constants(
    graph: ModelProto, payload: Path, architecture: Architecture, provider: str
) -> list[Failure]:
    """Compare heads, attention scale, window, epsilons and RoPE's caches.

    Args:
        provider: DirectML's attention has no window (`validators.lint.providers`).
    """
    config = architecture.config
    attention = [attributes_of(node) for node in nodes_of(graph, "GroupQueryAttention")]
    norms = [node for node in nodes_of(graph) if "LayerNormalization" in node.op_type]
    epsilons = [attributes_of(node).get("epsilon") for node in norms]
    scale = attention_scale(architecture)
    # the kernel takes 0, or nothing, for the formula
    scales = [given.get("scale") or scale for given in attention]
    found = compare("other-attention-scale", "attention scale", scales, scale)
    found += compare("other-epsilon", "norm epsilon", epsilons, config["rms_norm_eps"])
    for key, heads in (("num_heads", architecture.heads), ("kv_num_heads", architecture.kv_heads)):
        found += compare("other-heads", key, [given.get(key) for given in attention], heads)
    window = None if provider == "dml" else config.get("sliding_window")
    windows = [given.get("local_window_size", -1) for given in attention]
    if window is not None and window >= config["max_position_embeddings"]:
        windows = [one for one in windows if one != -1]  # a window beyond all positions is none
    if "layer_types" not in config:
        found += compare("other-window", "local_window_size", windows, window or -1)
    data: Any = np.memmap(payload / ONNX_WEIGHTS, dtype=np.uint8, mode="r")
    tensors = initializers(graph)
    for node in nodes_of(graph, "Constant"):
        tensors[node.output[0]] = attributes_of(node).get("value", TensorProto())

    def values(name: str) -> Array | None:
        tensor = tensors.get(name)
        return None if tensor is None else _values(tensor, data)

    return found + _lint_rope(graph, values, architecture)


def _values(tensor: TensorProto, data: Array) -> Array | None:
    dtype = _NUMPY.get(TensorProto.DataType.Name(tensor.data_type))
    place = place_of(tensor)
    if dtype is None or place is None:
        return None if dtype is None else numpy_helper.to_array(tensor)
    stored = data[place[0] : place[0] + place[1]]
    return np.frombuffer(stored, dtype=dtype).reshape(tuple(tensor.dims))


def _lint_rope(
    graph: ModelProto, tensor: Callable[[str], Array | None], architecture: Architecture
) -> list[Failure]:
    """Compare the caches of cosines and sines over their whole length, and LongRoPE's switch.

    Args:
        tensor: name to the values of an initializer; None: there is none of floats or integers.
    """
    rope = rope_of(architecture)
    if rope is None:
        return []
    made_by = {name: node for node in nodes_of(graph) for name in node.output if name}
    caches, found = set(), []
    for operator, places in _CACHES.items():
        for node in nodes_of(graph, operator):
            names = [node.input[place] for place in places if len(node.input) > place]
            caches |= {pair for pair in zip(("cos", "sin"), names, strict=False) if pair[1]}
            if rope.beyond is not None and operator == "RotaryEmbedding":
                found += _lint_shift(node, made_by, tensor, rope)
    for kind, name in sorted(caches):
        values, node = tensor(name), made_by.get(name)
        if values is not None and rope.beyond is None:
            found += lint_cache(kind, values, rope.frequencies, rope.length, 1.0)
        elif values is not None and len(values) >= rope.switch:
            found += lint_caches(kind, values[: rope.switch], values[rope.switch :], rope)
        elif values is None and node is not None and node.op_type == "If" and rope.switch:
            small, large = (_branch(node, branch, name) for branch in ("else", "then"))
            found += lint_caches(kind, small, large, rope)
            found += _lint_condition(made_by.get(node.input[0]), "Greater", tensor, rope)
        else:
            found.append(Failure(OTHER_ROPE, f"{kind}_cache: {name} is none"))
    if not caches:
        found.append(Failure(OTHER_ROPE, "no attention has cosines and sines"))
    return list(dict.fromkeys(found))


def _lint_shift(
    node: NodeProto,
    made_by: dict[str, NodeProto],
    tensor: Callable[[str], Array | None],
    rope: Rope,
) -> list[Failure]:
    """A long sequence's positions begin below the short cache: Add(Mul(Cast(longer), n), ids)."""
    kinds, name, steps = ("Add", "Mul", "Cast"), node.input[1], []
    for kind in kinds:
        step = made_by.get(name)
        if step is None or step.op_type != kind:
            return [Failure(OTHER_ROPE, "nothing chooses LongRoPE's positions by the length")]
        name = step.input[0]
        steps.append(step)
    found = _lint_condition(made_by.get(name), "GreaterOrEqual", tensor, rope)
    if not close(tensor(steps[1].input[1]), np.asarray([rope.switch])):
        what = f"LongRoPE's positions are not moved by {rope.switch}"
        found.append(Failure(OTHER_ROPE, what))
    return found


def _lint_condition(
    node: NodeProto | None, kind: str, tensor: Callable[[str], Array | None], rope: Rope
) -> list[Failure]:
    right = node is not None and node.op_type == kind
    if node is not None and right and close(tensor(node.input[1]), np.asarray([rope.switch])):
        return []
    return [Failure(OTHER_ROPE, f"LongRoPE does not switch after {rope.switch} tokens")]


def _branch(node: NodeProto, branch: str, name: str) -> Array:
    """A cache that one branch of an ``If`` has as a constant."""
    graph = attributes_of(node)[f"{branch}_branch"]
    wanted = graph.output[list(node.output).index(name)].name
    for inner in graph.node:
        if inner.op_type == "Constant" and wanted in inner.output:
            return np.asarray(numpy_helper.to_array(attributes_of(inner)["value"]))
    return np.zeros(0)
