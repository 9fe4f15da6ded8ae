"""INT4 blocks of weights that float16 cannot hold, taken from the source's values instead.

The model builder's DirectML and CUDA graphs are float16, and it quantizes the float16 weights. A
bfloat16 weight below 2**-17 may lose bits there; in a nearly dead row that is all it has. The
result's scales are float16 too, so the codes are chosen for the scale as it is stored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Rows = Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float32]]

MIDDLE = 8  # the code of zero: a symmetric weight is (code - 8) * scale
_SMALLEST_NORMAL = np.finfo(np.float16).smallest_normal

# float16 moves a bfloat16 value only below 2**-17, and to at most 2**-17. Where |scale| exceeds
# 2**-16 both the value and its rounding lie within half a step of zero: the same code. The scale,
# an eighth of the block's largest weight, is then exact as well. Only other blocks can differ.
_EXACT_ABOVE = np.float32(2.0**-16)


@dataclass(frozen=True)
class HalfMatrix:
    """Columns of one matrix as the float16 graph has them, and their source.

    Attributes:
        values: (K, n) float16.
        source: column numbers to the source's values, (their number, K) float32.
        bfloat16: the source's elements are bfloat16; else any block may have lost bits.
    """

    values: npt.NDArray[np.float16]
    source: Rows
    bfloat16: bool


def correct(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float16],
    half: HalfMatrix,
    block_size: int,
) -> int:
    """Replace, in place, each block that has a nearer one to the source; return how many.

    Args:
        codes: (n, blocks, block_size / 2), two 4-bit codes a byte, the first in the low half.
        scales: (n, blocks).
        half: what they were quantized from.
        block_size: weights in a block, along K; the last block is filled with zeros.

    Raises:
        ValueError: the graph's values are not the source's, rounded to float16.
    """
    suspects = np.abs(scales.astype(np.float32)) <= _EXACT_ABOVE
    if not half.bfloat16:
        suspects[:] = True
    columns = np.flatnonzero(suspects.any(axis=1))
    if not columns.size:
        return 0
    source = half.source(columns)
    if not np.array_equal(source.astype(np.float16), half.values[:, columns].T):
        raise ValueError("the graph's values are not the source's")
    filled = np.zeros((len(columns), scales.shape[1] * block_size), np.float32)
    filled[:, : source.shape[1]] = source
    where, place = np.nonzero(suspects[columns])
    blocks = filled.reshape(len(columns), -1, block_size)[where, place]
    where = columns[where]

    best_codes, best_scales = _unpack(codes[where, place]), scales[where, place]
    best_error = _error(best_codes, best_scales, blocks)
    changed = np.zeros(len(blocks), np.bool_)
    for candidate in _candidates(blocks):
        candidate_codes = _nearest_codes(blocks, candidate)
        error = _error(candidate_codes, candidate, blocks)
        better = error < best_error
        best_codes[better], best_scales[better] = candidate_codes[better], candidate[better]
        best_error = np.where(better, error, best_error)
        changed |= better
    codes[where, place], scales[where, place] = _pack(best_codes), best_scales
    return int(changed.sum())


def _candidates(blocks: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float16]]:
    """The official scale of the source's values, as float16 rounds it and, if tiny, next to it.

    Below float16's normal range the rounding of the scale itself is coarse, down to zero.
    """
    largest = np.abs(blocks).argmax(axis=1)[:, None]
    exact = np.take_along_axis(blocks, largest, axis=1)[:, 0] / np.float32(-MIDDLE)
    rounded = exact.astype(np.float16)
    yield rounded
    wide = rounded.astype(np.float32)
    shrunk = (np.abs(wide) < np.abs(exact)) & (np.abs(wide) < _SMALLEST_NORMAL)
    away = np.nextafter(rounded, np.copysign(np.float16(np.inf), exact.astype(np.float16)))
    yield np.where(shrunk, away, rounded)


def _nearest_codes(
    blocks: npt.NDArray[np.float32], scales: npt.NDArray[np.float16]
) -> npt.NDArray[np.uint8]:
    """Codes as onnxruntime's `MlasQuantizeBlockwise` rounds them, for ``scales`` as stored."""
    wide = scales.astype(np.float32)
    reciprocal = np.divide(1, wide, out=np.zeros_like(wide), where=wide != 0)
    rounded = np.floor(blocks * reciprocal[:, None] + np.float32(MIDDLE + 0.5))
    codes: npt.NDArray[np.uint8] = np.clip(rounded, 0, 2 * MIDDLE - 1).astype(np.uint8)
    return codes


def _error(
    codes: npt.NDArray[np.uint8],
    scales: npt.NDArray[np.float16],
    blocks: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """Squared distance of each dequantized block from its source."""
    values = (codes.astype(np.float64) - MIDDLE) * scales.astype(np.float64)[:, None]
    error: npt.NDArray[np.float64] = np.square(values - blocks).sum(axis=1)
    return error


def _unpack(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    codes = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), np.uint8)
    codes[..., 0::2], codes[..., 1::2] = packed & 15, packed >> 4
    return codes


def _pack(codes: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    return codes[..., 0::2] | codes[..., 1::2] << 4
