"""The header of a safetensors file: which tensors it holds, and where their bytes are.

Format: https://github.com/huggingface/safetensors#format (8 bytes of little-endian header length,
a JSON header with ``dtype``, ``shape`` and ``data_offsets`` of each tensor, then the bytes).
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import unique_keys
from phiforge.errors import PhiforgeError

ELEMENT_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # bytes; the library's own limit


class SafetensorsError(PhiforgeError):
    """A file is not in the safetensors format, or does not hold the bytes that its header names."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file.

    Attributes:
        dtype: safetensors' name of the element type, such as ``BF16``.
        offset: of its first byte in the file.
        size: in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


def read_header(path: Path, where: str | None = None) -> dict[str, StoredTensor]:
    """Return the tensors of a file by name, once they are seen to fill it without gap or overlap.

    Args:
        where: what a message calls the file; None: its path.

    Raises:
        SafetensorsError: they do not, or the header is not one.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > _LONGEST_HEADER:
                raise ValueError(f"its header would be {length} bytes long")
            header = json.loads(stream.read(length), object_pairs_hook=unique_keys)
            header.pop("__metadata__", None)
            tensors = {name: _stored(entry, 8 + length) for name, entry in header.items()}
        _refuse_gaps(tensors, 8 + length, path.stat().st_size)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SafetensorsError(
            f"not a safetensors file, truncated or damaged ({error})",
            where=where or path,
            remedy="use a source whose weights are whole",
        ) from None
    return tensors


def _stored(entry: Any, first: int) -> StoredTensor:
    begin, end = entry["data_offsets"]
    tensor = StoredTensor(entry["dtype"], tuple(entry["shape"]), first + begin, end - begin)
    if not all(isinstance(length, int) and length >= 0 for length in tensor.shape):
        raise ValueError(f"{list(tensor.shape)} is no shape")
    width = ELEMENT_BYTES.get(tensor.dtype)
    if width is not None and tensor.size != width * math.prod(tensor.shape):
        raise ValueError(f"{tensor.size} bytes are not {tensor.dtype} of {list(tensor.shape)}")
    return tensor


def _refuse_gaps(tensors: dict[str, StoredTensor], end: int, size: int) -> None:
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.size)):
        if tensor.offset != end or tensor.size < 0:
            raise ValueError(f"expected a tensor at byte {end}, found {tensor.offset}")
        end += tensor.size
    if end != size:
        raise ValueError(f"expected {end} bytes, found {size}")
