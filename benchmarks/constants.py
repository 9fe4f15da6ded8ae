"""Whether two builds of one model hold the same weights, constant by constant."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from phiforge.artifact.payload_files import ONNX_GRAPH, OPENVINO_IR


@dataclass(frozen=True)
class Comparison:
    """Ours beside the official one.

    Attributes:
        constants: how many were compared.
        equal: how many have the same type, shape and bytes.
        nearer: float32 ones of ours that the official build holds rounded to float16.
        different: names of all the others.
    """

    constants: int
    equal: int
    nearer: int
    different: tuple[str, ...]


def compare_openvino(ours: Path, theirs: Path) -> Comparison:
    """Two folders with ``openvino_model.xml``; constants pair up in topological order."""
    core = ov.Core()
    one, other = (core.read_model(folder / OPENVINO_IR) for folder in (ours, theirs))
    return _compare(list(_constants(one)), list(_constants(other)))


def _constants(model: ov.Model) -> Iterator[tuple[str, Any]]:
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Constant":
            yield node.get_friendly_name(), node


def _compare(ours: list[tuple[str, Any]], theirs: list[tuple[str, Any]]) -> Comparison:
    equal = nearer = 0
    different = []
    for (name, one), (_, other) in zip(ours, theirs, strict=False):
        types = [node.get_element_type().get_type_name() for node in (one, other)]
        same_shape = list(one.shape) == list(other.shape)
        if same_shape and types[0] == types[1] and _same_bytes(one.data, other.data):
            equal += 1
        elif (
            same_shape
            and types == ["f32", "f16"]
            and np.array_equal(one.data.astype(np.float16), other.data, equal_nan=True)
        ):
            nearer += 1
        else:
            different.append(name)
    missing = abs(len(ours) - len(theirs))
    different += [f"({missing} constants without a partner)"] if missing else []
    return Comparison(max(len(ours), len(theirs)), equal, nearer, tuple(different))


def _same_bytes(one: Any, other: Any) -> bool:
    return bool(np.array_equal(one.reshape(-1).view(np.uint8), other.reshape(-1).view(np.uint8)))


def compare_onnx(ours: Path, theirs: Path) -> Comparison:
    """Two folders with ``model.onnx`` and its external data; initializers pair up by name."""
    from converters.onnx_genai.graph import open_graph

    one, other = (
        {
            name: value.const_value
            for name, value in open_graph(folder / ONNX_GRAPH).graph.initializers.items()
        }
        for folder in (ours, theirs)
    )
    different = sorted(one.keys() ^ other.keys())
    shared = sorted(one.keys() & other.keys())
    for name in shared:
        mine, official = one[name], other[name]
        same_kind = mine.dtype == official.dtype and tuple(mine.shape) == tuple(official.shape)
        if not same_kind or not _same_bytes(
            np.ascontiguousarray(mine.numpy()), np.ascontiguousarray(official.numpy())
        ):
            different.append(name)
    equal = len(shared) - sum(name in one and name in other for name in different)
    return Comparison(len(one.keys() | other.keys()), equal, 0, tuple(different))
