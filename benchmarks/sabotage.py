"""Break a built artifact the way conversions break: real payloads, edited byte by byte.

All formats keep their weights as raw tensors in one file: an OpenVINO IR in
``openvino_model.bin``, described by the ``Const`` layers of ``openvino_model.xml`` (offset, size),
an ONNX graph in ``model.onnx.data``, described by the external initializers of ``model.onnx``,
Intel's NPU library in a safetensors file. A sabotage
rewrites some of these bytes and seals the copy again with valid checksums, so that nothing but
its answers can give it away.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST, write_manifest
from phiforge.artifact.payload_files import (
    ONNX_GRAPH,
    ONNX_WEIGHTS,
    OPENVINO_IR,
    OPENVINO_WEIGHTS,
)
from phiforge.artifact.safetensors_header import read_header
from validators.lint.openvino_ir import read_ir

Bytes = NDArray[np.uint8]

_ONNX_TYPES = {1: "f32", 2: "u8", 3: "i8", 6: "i32", 7: "i64", 10: "f16"}


@dataclass(frozen=True)
class Tensor:
    """A constant of a payload: where its bytes are and what they mean.

    ``type`` is OpenVINO's name of the element type (``f16``, ``i4``, ``u8`` …).
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def layer(self) -> int | None:
        """The transformer layer it belongs to."""
        found = re.search(r"layers\.(\d+)\.", self.name)
        return int(found[1]) if found else None

    @property
    def counterpart(self) -> str:
        """The name without the layer's number."""
        return re.sub(r"layers\.\d+\.", "layers.*.", self.name)


@dataclass(frozen=True)
class Weights:
    """The tensors of a payload and the bytes of the file that holds them, which may be edited."""

    tensors: Mapping[str, Tensor]
    data: Bytes

    def of(self, tensor: Tensor) -> Bytes:
        """A view of the tensor's bytes."""
        return self.data[tensor.offset : tensor.offset + tensor.size]

    def matching(self, pattern: str) -> list[Tensor]:
        """Tensors whose name holds ``pattern``, in the order of the file."""
        found = [tensor for name, tensor in self.tensors.items() if re.search(pattern, name)]
        return sorted(found, key=lambda tensor: tensor.offset)

    def layer(self, index: int) -> dict[str, Tensor]:
        """Matrices of a layer and what scales them, by their name without the number."""
        return {
            tensor.counterpart: tensor
            for tensor in self.tensors.values()
            if tensor.layer == index and "weight" in tensor.name and "norm" not in tensor.name
        }

    @property
    def layers(self) -> int:
        """How many transformer layers there are."""
        return 1 + max(tensor.layer or 0 for tensor in self.tensors.values())


Sabotage = Callable[[Weights], None]
"""Edits the bytes in place."""


def sabotaged(payload: Path, into: Path, sabotage: Sabotage) -> Path:
    """Copy ``payload`` to ``into``, break the copy, and seal it with checksums of its own."""
    shutil.rmtree(into, ignore_errors=True)
    shutil.copytree(payload, into, copy_function=shutil.copyfile)
    weights_file = _weights_file(into)
    before = weights_file.read_bytes()
    weights = Weights(
        {tensor.name: tensor for tensor in _tensors(into)},
        np.frombuffer(before, dtype=np.uint8).copy(),
    )
    sabotage(weights)
    after = weights.data.tobytes()
    if after == before:
        raise ValueError("this sabotage changed nothing")
    weights_file.write_bytes(after)
    for name in (MANIFEST, CHECKSUMS):
        (into / name).unlink()
    write_manifest(into, {})
    return into


def _weights_file(payload: Path) -> Path:
    files = [payload / OPENVINO_WEIGHTS, payload / ONNX_WEIGHTS, *payload.glob("*.safetensors")]
    return next(file for file in files if file.is_file())


def _tensors(payload: Path) -> Iterator[Tensor]:
    """Yield the constants of a payload of any format."""
    if (weights := _weights_file(payload)).suffix == ".safetensors":
        for name, stored in read_header(weights).items():
            yield Tensor(name, stored.dtype.lower(), stored.shape, stored.offset, stored.size)
        return
    if (payload / OPENVINO_IR).is_file():
        for constant in read_ir(payload / OPENVINO_IR).constants:
            yield Tensor(
                constant.name, constant.type, constant.shape, constant.offset, constant.size
            )
        return
    import onnx  # only for payloads of this format

    for initializer in onnx.load(payload / ONNX_GRAPH, load_external_data=False).graph.initializer:
        where = {entry.key: entry.value for entry in initializer.external_data}
        if "offset" in where:
            kind = _ONNX_TYPES.get(initializer.data_type, str(initializer.data_type))
            place = int(where["offset"]), int(where["length"])
            yield Tensor(initializer.name, kind, tuple(initializer.dims), *place)


def zero_layer(index: int) -> Sabotage:
    """The layer's matrices become 0: only the residual stream passes."""

    def sabotage(weights: Weights) -> None:
        layer = weights.layer(index)
        scales = [tensor for name, tensor in layer.items() if "scale" in name]
        plain = [tensor for tensor in layer.values() if tensor.type in ("f16", "bf16", "f32")]
        for tensor in scales or plain:
            weights.of(tensor)[:] = 0
        for tensor in plain:
            if _is_matrix(tensor):
                weights.of(tensor)[:] = 0

    return sabotage


def swap_layers(first: int, second: int) -> Sabotage:
    """Two layers exchange their matrices, norms stay. Raises ValueError: not of one form."""

    def sabotage(weights: Weights) -> None:
        one, other = weights.layer(first), weights.layer(second)
        form = {name: (tensor.type, tensor.shape) for name, tensor in one.items()}
        if form != {name: (tensor.type, tensor.shape) for name, tensor in other.items()}:
            raise ValueError(f"layers {first} and {second} do not have one form")
        for name in one:
            kept = weights.of(one[name]).copy()
            weights.of(one[name])[:] = weights.of(other[name])
            weights.of(other[name])[:] = kept

    return sabotage


def exchange_tokens(first: int, second: int) -> Sabotage:
    """Two rows of the embedding change places, as if a tokenizer had two ids exchanged."""

    def sabotage(weights: Weights) -> None:
        for tensor in weights.matching(r"embed_tokens"):
            if len(tensor.shape) >= 2:
                rows = weights.of(tensor).reshape(tensor.shape[0], -1)
                rows[[first, second]] = rows[[second, first]]

    return sabotage


def other_weights(weights: Weights) -> None:
    """Weights of the right form and statistics that mean something else: rolled by half."""
    for index in range(weights.layers):
        for tensor in weights.layer(index).values():
            view = weights.of(tensor)
            view[:] = np.roll(view, view.size // 2)


def rows_of(pattern: str, edit: Callable[[NDArray[Any]], None]) -> Sabotage:
    """Edit the rows of the tensors that match: floats as such, codes as bytes.

    Args:
        edit: changes an array of shape (rows, values) in place.
    """

    def sabotage(weights: Weights) -> None:
        for tensor in weights.matching(pattern):
            dtype = {"f16": np.float16, "f32": np.float32, "bf16": np.uint16}.get(tensor.type)
            edit(weights.of(tensor).view(dtype or np.uint8).reshape(tensor.shape[0], -1))

    return sabotage


def rope_base(base: float, original: float = 10000.0) -> Sabotage:
    """Rotary embedding with another base than the model was trained with."""

    def sabotage(weights: Weights) -> None:
        for tensor in weights.matching(r"rotary_emb|cos_cache|sin_cache"):
            dtype = {"f16": np.float16, "f32": np.float32}.get(tensor.type)
            if dtype is None or tensor.size <= 8:
                continue
            values = weights.of(tensor).view(dtype).reshape(tensor.shape)
            if "cache" in tensor.name:
                positions, half = tensor.shape
                angles = np.arange(positions)[:, None] * base ** -(np.arange(half) / half)
                values[:] = np.cos(angles) if tensor.name.startswith("cos") else np.sin(angles)
            else:
                half = values.size
                ratio = (base / original) ** -(np.arange(half) / half)
                values[:] = (values.reshape(-1) * ratio).reshape(values.shape)

    return sabotage


def roll_groups(weights: Weights) -> None:
    """Every scale serves the neighbour of its group, as after a wrong reshape of the scales."""
    for tensor in weights.matching(r"layers\..*scale"):
        if len(tensor.shape) < 2:
            continue  # the scale of an attention, not of a weight
        groups = tensor.shape[1]
        values = weights.of(tensor).view(np.float16).reshape(tensor.shape[0], groups, -1)
        values[:] = np.roll(values, 1, axis=1)


def fewer_bits(bits: int) -> Sabotage:
    """The layers' matrices are rounded to ``bits`` bits within the form that they have.

    Float weights are rounded per output row; codes keep their scales and lose their last bits.
    """

    def sabotage(weights: Weights) -> None:
        for index in range(weights.layers):
            for tensor in weights.layer(index).values():
                if "scale" not in tensor.name and "zero_point" not in tensor.name:
                    _round_tensor(weights.of(tensor), tensor, bits)

    return sabotage


def _is_matrix(tensor: Tensor) -> bool:
    return len(tensor.shape) >= 2 and min(tensor.shape[0], int(np.prod(tensor.shape[1:]))) > 1


def _round_tensor(view: Bytes, tensor: Tensor, bits: int) -> None:
    if not _is_matrix(tensor):
        return
    if tensor.type == "f16":
        matrix = view.view(np.float16).reshape(tensor.shape[0], -1).astype(np.float32)
        step = np.abs(matrix).max(axis=1, keepdims=True) / (2 ** (bits - 1) - 0.5)
        rounded = np.round(matrix / np.maximum(step, 1e-12)) * step
        view[:] = rounded.astype(np.float16).reshape(-1).view(np.uint8)
    elif tensor.type == "i4":
        view[:] = _pack(_round_codes(_unpack(view) ^ 8, 4, bits) ^ 8)
    elif tensor.type == "nf4":
        view[:] = _pack(_round_codes(_unpack(view), 4, bits, centre=7))
    elif tensor.type == "u4" or (tensor.type == "u8" and tensor.name.endswith("_Q4")):
        view[:] = _pack(_round_codes(_unpack(view), 4, bits))
    elif tensor.type == "i8":
        view[:] = _round_codes((view ^ 128).astype(np.int16), 8, bits) ^ 128
    elif tensor.type == "u8":
        view[:] = _round_codes(view.astype(np.int16), 8, bits)


def _round_codes(
    codes: NDArray[np.int16], have: int, bits: int, centre: int | None = None
) -> NDArray[np.int16]:
    """Round codes of ``have`` bits to ``bits``, around the one that means 0."""
    if bits >= have:
        return codes
    step = 2 ** (have - bits)
    centre = 2 ** (have - 1) if centre is None else centre
    rounded = centre + step * np.round((codes - centre) / step)
    least = centre % step
    return np.asarray(np.clip(rounded, least, least + 2**have - step), dtype=np.int16)


def _unpack(view: Bytes) -> NDArray[np.int16]:
    """Split each byte into two codes, the lower half first."""
    return np.stack([view & 15, view >> 4], axis=-1).reshape(-1).astype(np.int16)


def _pack(codes: NDArray[np.int16]) -> Bytes:
    pairs = (codes.astype(np.int16) & 15).astype(np.uint8).reshape(-1, 2)
    return np.asarray(pairs[:, 0] | (pairs[:, 1] << 4), dtype=np.uint8)


def frequent_tokens(prompts: Sequence[Sequence[int]], count: int = 2) -> list[int]:
    """The tokens that most prompts hold, most frequent first; ties by id."""
    ids, numbers = np.unique(
        [token for prompt in prompts for token in set(prompt)], return_counts=True
    )
    return [int(token) for token in ids[np.lexsort((ids, -numbers))][:count]]


def layers_of(payload: Path) -> int:
    """Return how many transformer layers a payload's weights name."""
    return 1 + max(tensor.layer or 0 for tensor in _tensors(payload))
