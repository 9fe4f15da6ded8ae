"""Hold an ONNX graph's constants to the source's configuration."""

from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from phiforge.artifact.payload_files import ONNX_WEIGHTS
from phiforge.receipts.receipt import Failure
from validators.lint.architecture import Architecture
from validators.lint.constants import attention_scale, compare, lint_cache
from validators.lint.onnx_graph import attributes_of, initializers, nodes_of, place_of

_NUMPY = {"FLOAT": np.float32, "FLOAT16": np.float16}
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
    return found + _lint_caches(graph, payload, architecture)


def _lint_caches(graph: ModelProto, payload: Path, architecture: Architecture) -> list[Failure]:
    data: Any = np.memmap(payload / ONNX_WEIGHTS, dtype=np.uint8, mode="r")
    tensors, caches = initializers(graph), set()
    for operator, places in _CACHES.items():
        for node in nodes_of(graph, operator):
            given = [node.input[place] for place in places if len(node.input) > place]
            caches |= {
                (kind, name) for kind, name in zip(("cos", "sin"), given, strict=False) if name
            }
    found = []
    for kind, name in sorted(caches):
        tensor = tensors.get(name)
        dtype = tensor and _NUMPY.get(TensorProto.DataType.Name(tensor.data_type))
        if tensor is None or dtype is None:
            continue  # LongRoPE's are chosen while it runs
        offset, length = place_of(tensor) or (0, 0)
        values = np.frombuffer(data[offset : offset + length], dtype=dtype)
        found += lint_cache(f"{kind}_cache", values.reshape(tuple(tensor.dims)), architecture)
    if not caches:
        found.append(Failure("other-rope", "no attention has cosines and sines"))
    return found
