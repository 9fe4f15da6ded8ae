"""Weights, mapped from their safetensors files: read when used, never copied."""

import math
import mmap
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phiforge.artifact.safetensors_header import StoredTensor, read_header
from phiforge.sources.source import SourceError

_STORAGE: Mapping[str, type[np.generic]] = {
    "BF16": np.uint16,  # numpy has no bfloat16; the bits are what matters here
    "F16": np.float16,
    "F32": np.float32,
    "I8": np.int8,
    "U8": np.uint8,
}
_PERIOD_S = 0.2


@dataclass(frozen=True)
class SourceTensor:
    """One tensor of the source.

    Attributes:
        dtype: safetensors' name of the element type: ``BF16``, ``F16``, ``F32``, ``I8`` or ``U8``.
        data: the mapped elements in the tensor's shape; BF16 as its 16 bits in a uint16.
    """

    dtype: str
    data: npt.NDArray[Any]


def tensor_of(name: str, tensors: Mapping[str, SourceTensor], source: Path) -> SourceTensor:
    """Find the tensor of a weight; a tied LM head is the embedding.

    Raises:
        SourceError: ``source`` has no such tensor.
    """
    for candidate in (name, "model.embed_tokens.weight" if name == "lm_head.weight" else name):
        if candidate in tensors:
            return tensors[candidate]
    raise SourceError(
        f"the source has no tensor '{name}'",
        where=source,
        expected="the weights that the payload was made from",
        remedy="build the variant again, and what its 'from:' names",
    )


def as_float32(tensor: SourceTensor, rows: npt.NDArray[np.intp] | slice) -> npt.NDArray[np.float32]:
    """Widen the values of some rows, which float32 holds exactly; an axis is kept."""
    picked = tensor.data[rows]
    if tensor.dtype == "BF16":
        return (picked.astype(np.uint32) << 16).view(np.float32)
    return picked.astype(np.float32)


@contextmanager
def mapped_source_weights(source: Path) -> Iterator[dict[str, SourceTensor]]:
    """Every tensor of a known type in the ``*.safetensors`` files of ``source``, by name.

    Until the end of the block the files stay mapped, and no page of them stays resident for long:
    pages that were read are let go again and again, and come back from the page cache if they are
    wanted once more.

    Raises:
        SourceError: there is no file.
        SafetensorsError: a file is not in the safetensors format.
    """
    files = sorted(source.glob("*.safetensors"))
    if not files:
        raise SourceError(
            "no weights", where=source, expected="*.safetensors", remedy="fetch the source again"
        )
    mappings: list[mmap.mmap] = []
    tensors: dict[str, SourceTensor] = {}
    for file in files:
        header = read_header(file)
        with file.open("rb") as stream:
            mappings.append(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        for name, stored in header.items():
            if stored.dtype in _STORAGE:
                tensors[name] = SourceTensor(stored.dtype, _view(mappings[-1], stored))
    ended = threading.Event()
    thread = threading.Thread(target=_let_go, args=(mappings, ended), daemon=True)
    thread.start()
    try:
        yield tensors
    finally:
        ended.set()
        thread.join()


def _let_go(mappings: list[mmap.mmap], ended: threading.Event) -> None:
    # Of a mapping that nobody writes, MADV_DONTNEED takes page table entries, not contents.
    while not ended.wait(_PERIOD_S):
        for mapping in mappings:
            mapping.madvise(mmap.MADV_DONTNEED)


def _view(mapping: mmap.mmap, stored: StoredTensor) -> npt.NDArray[Any]:
    dtype, count = np.dtype(_STORAGE[stored.dtype]), math.prod(stored.shape)
    return np.frombuffer(mapping, dtype, count, stored.offset).reshape(stored.shape)
