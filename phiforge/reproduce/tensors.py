"""Which tensors of two payloads differ, where their files do: a place to begin looking."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from phiforge.artifact.safetensors_header import read_header

Tensors = Iterator[tuple[str, Any]]
"""Name and elements; arrays are mapped, one at a time."""


def differing_tensors(one: Path, other: Path, names: list[str]) -> list[str]:
    """``file: tensor`` of every tensor that differs in the files ``names`` of two payloads."""
    differing = []
    stems = {Path(name).name.split(".")[0] for name in names}
    for read, pattern in ((_openvino, "*.xml"), (_onnx, "*.onnx"), (_safetensors, "*.safetensors")):
        for path in sorted(one.rglob(pattern)):
            name = path.relative_to(one)
            twin = other / name
            if path.name.split(".")[0] in stems and twin.is_file():
                differing += [f"{name}: {tensor}" for tensor in _differing(read(path), read(twin))]
    return differing


def _differing(one: Tensors, other: Tensors) -> Iterator[str]:
    mine, theirs = dict(one), dict(other)
    for name in sorted(mine.keys() | theirs.keys()):
        if name not in mine or name not in theirs or not _same(mine[name], theirs[name]):
            yield name


def _same(one: Any, other: Any) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.array_equal(
            np.ascontiguousarray(one).reshape(-1).view(np.uint8),
            np.ascontiguousarray(other).reshape(-1).view(np.uint8),
        )
    )


def _openvino(path: Path) -> Tensors:
    import openvino
    import openvino_tokenizers  # noqa: F401  (a tokenizer's operations live in it)

    for place, node in enumerate(openvino.Core().read_model(path).get_ordered_ops()):
        if node.get_type_name() == "Constant":
            yield f"{node.get_friendly_name()} (operation {place})", node.data


def _onnx(path: Path) -> Tensors:
    from converters.onnx_genai.graph import open_graph

    for name, value in open_graph(path).graph.initializers.items():
        if value.const_value is not None:
            yield name, value.const_value.numpy()


def _safetensors(path: Path) -> Tensors:
    content = np.memmap(path, dtype=np.uint8, mode="r")
    for name, tensor in read_header(path).items():
        stored = content[tensor.offset : tensor.offset + tensor.size]
        yield f"{name} {tensor.dtype} {list(tensor.shape)}", stored
