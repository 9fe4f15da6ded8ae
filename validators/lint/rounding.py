"""Find weights that were rounded to fewer bits than their type has.

Rounding leaves few different values among neighbours that share a scale, whatever the scale is and
however many weights share it: a window of 32 neighbours along the input side sees it from groups
of 32 up to whole rows. Weights of a trained model do not repeat so: of 32 float16 values from a
bfloat16 checkpoint about 30 differ, and the codes that honest rounding gives to 32 weights are
next to one another somewhere, even where one outlier squeezes all others together. (NF4's codes
count its levels from the lowest to the highest, so this holds for them too.)

Windows of a few values, or mostly of one (a dead row, untrained tokens), say nothing either way,
and one window proves nothing: half of those that say something must agree. Where outliers squeeze
a row of 8-bit codes so far that 4-bit steps are less than two codes, nothing is seen: 8 bits do
not hold more there than 4 would.

Worth (benchmarks/acceptance/phi3-tiny.json): the gates of metrics catch 13 of 15 such roundings;
this lint also names the mixed INT4 variants whose INT8 matrices have 4 bits, judges synthetic
models, which have no gates, and takes 3 ms for a matrix of 9,216 by 3,072.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WINDOW = 32
FEW_VALUES = 16  # what 4 bits can say
_CLUSTERS = 4  # rows are sampled in places so many, and in each so many neighbours
_PLACES = 8  # windows along a row
_SPEAKING = 16  # windows that say something; fewer are no ground for a verdict
_LEAST_VALUES = 4


@dataclass(frozen=True)
class Matrix:
    """A weight matrix as it is stored, mapped, not read.

    Attributes:
        values: shape (rows, columns) of float16, float32, int8 or uint8; for 4-bit codes
            (rows, columns / 2) of uint8, two a byte, neighbours along a row.
        bits: of one weight; 4: `values` is packed.
    """

    name: str
    values: NDArray[np.generic]
    bits: int


def is_rounded(matrix: Matrix) -> bool:
    """Whether the matrix holds less than its type can, along its rows or its columns.

    Only sampled windows are read: some ten thousand values, whatever the matrix's size.
    """
    if matrix.bits == 4:
        return _half_agree(*_coarse_codes(_unpack(_windows(matrix.values, WINDOW // 2))))
    judge = _few_floats if np.issubdtype(matrix.values.dtype, np.floating) else _coarse_codes
    # float matrices of ONNX graphs lie with the input side down the columns
    return any(
        _half_agree(*judge(_windows(side, WINDOW))) for side in (matrix.values, matrix.values.T)
    )


def _windows(values: NDArray[np.generic], length: int) -> NDArray[np.generic]:
    """Sampled stretches of rows, shape (windows, length); none of a matrix too narrow."""
    rows, columns = values.shape
    if columns < length:
        return np.empty((0, length), dtype=values.dtype)
    firsts = np.linspace(0, max(rows - _CLUSTERS, 0), _CLUSTERS).astype(int)
    picked = sorted({min(first + step, rows - 1) for first in firsts for step in range(_CLUSTERS)})
    # at the windows' own length apart, so that none lies across two groups
    places = np.linspace(0, columns // length - 1, _PLACES).astype(int)
    starts = sorted({int(place) * length for place in places})
    return np.stack([values[row, start : start + length] for row in picked for start in starts])


def _few_floats(windows: NDArray[np.generic]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Per window: does it say something, and does it say that it was rounded."""
    ordered = np.sort(windows.astype(np.float32), axis=1)
    nonzero = (ordered != 0).sum(axis=1)
    new = np.diff(ordered, axis=1, prepend=np.nan) != 0
    different = (new & (ordered != 0)).sum(axis=1)
    repeats = different <= 0.6 * nonzero  # sparse weights have many zeros, not many equals
    return _speaking(ordered, different), (different <= FEW_VALUES) & repeats


def _coarse_codes(windows: NDArray[np.generic]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """As `_few_floats`, for integer codes: rounded ones keep a distance from one another."""
    ordered = np.sort(windows.astype(np.int16), axis=1)
    steps = np.diff(ordered, axis=1)
    different = 1 + (steps > 0).sum(axis=1)
    apart = ~(steps == 1).any(axis=1)
    return _speaking(ordered, different), (different <= FEW_VALUES) & apart


def _speaking(ordered: NDArray[np.generic], different: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Several values, and none of them more than half of the window."""
    half = ordered.shape[1] // 2
    one_for_all = (ordered[:, half:] == ordered[:, : ordered.shape[1] - half]).any(axis=1)
    return np.asarray((different >= _LEAST_VALUES) & ~one_for_all)


def _half_agree(speaking: NDArray[np.bool_], rounded: NDArray[np.bool_]) -> bool:
    count = int(speaking.sum())
    return count >= _SPEAKING and int((speaking & rounded).sum()) * 2 >= count


def _unpack(windows: NDArray[np.generic]) -> NDArray[np.generic]:
    packed = windows.astype(np.uint8)
    # i4 as u4: of all neighbours, only -1 and 0 look apart then
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    return np.asarray(codes, dtype=np.uint8)
