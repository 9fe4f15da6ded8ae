"""Describe the weights that a payload stores: where they lie, and how they have been rounded.

`validators.lint.held_weights` holds them to the source's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from validators.lint.architecture import Part

Array = npt.NDArray[Any]

NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
"""What its codes stand for (https://arxiv.org/abs/2305.14314, appendix E; OpenVINO's
``src/core/src/type/nf4.cpp``)."""


@dataclass(frozen=True)
class Scheme:
    """How weights of one type were rounded.

    Attributes:
        least: the smallest code; `most` the largest, zero points not subtracted.
        steps: a block's scale is its largest magnitude (with `zero_points`, its range with 0 in
            it) over so many.
        zero_points: blocks have one.
        levels: codes count NF4's levels.
        rounded_after: codes were chosen under the exact scale, which was then rounded to float16;
            else under the stored one.
        least_scale: a smaller one is raised to this.
        dead_scale: of a block of zeros; None: no other than its own.
        searched: scale and zero point were chosen for a small error, by no formula: codes have to
            be nearest under them, and the scale near the block's own.
        roundings: how often the stored scale was rounded to float16.
        cast: what the weights were cast to before they were rounded; None: to nothing.
    """

    least: int
    most: int
    steps: float
    zero_points: bool = False
    levels: bool = False
    rounded_after: bool = True
    least_scale: float = 0.0
    dead_scale: float | None = None
    searched: bool = False
    roundings: int = 1
    cast: type[np.generic] | None = None


@dataclass(frozen=True)
class Codes:
    """Some rows of codes, as they are stored.

    Attributes:
        stored: (rows, bytes); of four bits two codes a byte, the lower half first.
        scales: (rows, blocks, 1); `zero_points` alike.
        excess: what a stored code is above the one that is meant; with ``signed`` nothing.
        signed: codes of four bits are in two's complement.
    """

    stored: Array
    scales: Array
    zero_points: Array | None = None
    four_bits: bool = False
    excess: int = 0
    signed: bool = False


@dataclass(frozen=True)
class Stored:
    """Weights of a payload, mapped, and what they have to be.

    Attributes:
        part: of the source.
        columns: of the matrix; of a vector, its length (it is then one row).
        read: some rows as `Codes`, or as floats of shape (rows, columns).
        scheme: None: floats.
        channels: AWQ's scales of the columns, by which the stored weights were divided.
        failure: name of the failure of float weights and codes.
    """

    part: Part
    columns: int
    read: Callable[[slice], Codes | Array]
    scheme: Scheme | None = None
    channels: Array | None = None
    failure: str = "other-weights"


def unpacked(packed: Array) -> Array:
    """Split bytes into two codes each along the last axis, the lower half first."""
    codes = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype=np.uint8)
    codes[..., 0::2] = packed & 15
    codes[..., 1::2] = packed >> 4
    return codes
