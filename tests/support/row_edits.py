"""Edits of a weight's rows that a lint must see: numpy arrays, changed in place."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def roll_the_last(rows: Array) -> None:
    """Tokens that no prompt uses."""
    rows[1200:1500] = np.roll(rows[1200:1500], 1, axis=0)


def swap_nibbles(rows: Array) -> None:
    rows[:] = (rows >> 4) | (rows << 4)


def next_code(rows: Array) -> None:
    """One weight takes the neighbouring code."""
    rows[5, 7] ^= 1


def exchange_heads(rows: Array) -> None:
    rows[:128] = np.roll(rows[:128], 64, axis=0)


def permute_columns(rows: Array) -> None:
    rows[:, :32] = rows[:, 31::-1]


def scaled(by: float, rows: slice = slice(3, 4)) -> Callable[[Array], None]:
    def edit(values: Array) -> None:
        values[rows] *= values.dtype.type(by)

    return edit


def to_nan(rows: Array) -> None:
    rows[0] = np.nan


def one_weight(rows: Array) -> None:
    rows[9, 9] *= 8


def next_point(rows: Array) -> None:
    rows[0] += 1


def one_channel(rows: Array) -> None:
    rows.reshape(-1)[3] *= 1.01


def zero_columns(rows: Array) -> None:
    """An ONNX graph has a float matrix the other way round."""
    rows[:, 700:711] = 0


def zero_from(rows: Array) -> None:
    rows[2198:] = 0
