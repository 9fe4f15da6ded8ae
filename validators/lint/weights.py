"""Hold a payload's weights to the source's, value by value.

Rounding to the nearest is a theorem: each code is the one nearest to its weight under the scale of
its block, and the scale is what the block's own weights make of it. Both are checked, because
either alone proves nothing: codes made anew under doubled scales are all nearest. Float weights are
the source's, cast. Every row is read, whether a prompt uses it or not.

Tolerances are what float32 arithmetic and float16 scales may be off. A comparison is written so
that NaN fails it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from phiforge.receipts.receipt import Failure
from phiforge.sources.weights import SourceTensor, as_float32, tensor_of
from validators.contract import some
from validators.lint.architecture import Part

Array = npt.NDArray[Any]

_CHUNK = 1 << 20  # weights; what is made of them stays in a cache
_FLOAT32 = 2.0**-20  # a few roundings of float32, as a share
_HALF = 2.0**-11  # float16's rounding, as a share
_SUBNORMAL = 2.0**-25  # and of its smallest values
_BFLOAT16 = 2.0**-7  # two roundings of bfloat16, one of them a truncation
_NEAR = 0.5, 1.25  # of the own scale: where a searched one lies
_CUT = 2.0  # codes: how far a searched scale's range may leave the largest weights out
NF4 = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
_NF4_BETWEEN = np.concatenate([[-np.inf], (NF4[1:] + NF4[:-1]) / 2, [np.inf]]).astype(np.float32)
"""Bounds of what each code stands for (https://arxiv.org/abs/2305.14314, appendix E; OpenVINO's
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
    """Some rows of codes: shape (rows, blocks, block size); scales and zero points: size 1."""

    codes: Array
    scales: Array
    zero_points: Array | None = None


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


@dataclass
class _Found:
    """What is wrong, by failure name: matrix to how many of its values or blocks."""

    wrong: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, failure: str, name: str, right: Array) -> None:
        count = int(right.size - np.count_nonzero(right))
        if count:
            known = self.wrong.setdefault(failure, {})
            known[name] = known.get(name, 0) + count

    def failures(self) -> Iterator[Failure]:
        for failure, names in sorted(self.wrong.items()):
            what = f"{sum(names.values())} {_KINDS[failure]}: {some(sorted(names))}"
            yield Failure(failure, what)


_KINDS: Mapping[str, str] = {
    "other-weights": "weights are not the source's, rounded or cast as declared",
    "other-embedding": "weights of the embedding are not the source's",
    "other-norms": "weights of norms are not the source's",
    "other-scales": "scales are not what the source's weights under them make",
    "other-zero-points": "zero points are not what the source's weights under them make",
    "other-awq-scales": "channel scales are not the mean magnitudes of the source's columns",
}


def hold_to_source(
    stored: Iterable[Stored], tensors: Mapping[str, SourceTensor], source: Path
) -> list[Failure]:
    """Compare every value of ``stored`` with the ``tensors`` of ``source``.

    Raises:
        SourceError: the source lacks a tensor.
    """
    found = _Found()
    for one in stored:
        tensor = tensor_of(one.part.tensor, tensors, source)
        flat = SourceTensor(tensor.dtype, tensor.data.reshape(-1, one.columns))
        means = _channel_means(one, flat, found)
        step = max(1, _CHUNK // one.columns)
        for first in range(0, one.part.rows, step):
            rows = slice(first, min(first + step, one.part.rows))
            exact = as_float32(flat, slice(one.part.first + rows.start, one.part.first + rows.stop))
            with np.errstate(all="ignore"):  # NaN and infinity fail the comparisons
                _compare(one, one.read(rows), _as_rounded(exact, means, tensor.dtype), found)
    return list(found.failures())


def dequantized(one: Stored) -> Iterator[tuple[int, Array]]:
    """Yield what the graph computes with: first row and float32 rows, (rows, columns) in all."""
    step = max(1, _CHUNK // one.columns)
    for first in range(0, one.part.rows, step):
        values = one.read(slice(first, min(first + step, one.part.rows)))
        if isinstance(values, Codes):
            codes = values.codes.astype(np.float32)
            if one.scheme is not None and one.scheme.levels:
                codes = NF4.astype(np.float32)[values.codes]
            if values.zero_points is not None:
                codes -= values.zero_points.astype(np.float32)
            codes *= values.scales.astype(np.float32)
            values = codes.reshape(len(codes), one.columns)
        floats = np.asarray(values, dtype=np.float32)
        yield first, floats if one.channels is None else floats * one.channels.astype(np.float32)


def _compare(one: Stored, values: Codes | Array, exact: Array, found: _Found) -> None:
    name = one.part.name
    if one.scheme is None or not isinstance(values, Codes):
        # as bits: a NaN is no other NaN, and zero has a sign
        assert not isinstance(values, Codes)
        cast = np.ascontiguousarray(exact.astype(values.dtype))
        bits = f"u{values.dtype.itemsize}"
        found.add(one.failure, name, np.ascontiguousarray(values).view(bits) == cast.view(bits))
        return
    scheme = one.scheme
    if scheme.cast is not None:
        exact = exact.astype(scheme.cast).astype(np.float32)
    blocks = exact.reshape(values.codes.shape)
    own = _own_scales(blocks, scheme)
    scales = values.scales.astype(np.float64)
    slack = _FLOAT32 if one.channels is None else _BFLOAT16
    rounding: Array = np.zeros(1)
    if values.scales.dtype != np.float32:
        rounding = scheme.roundings * np.maximum(own * _HALF, _SUBNORMAL)
    right = np.abs(np.abs(scales) - own) <= rounding + own * slack
    if scheme.searched:
        right = (scales >= own * _NEAR[0] - rounding) & (scales <= own * _NEAR[1] + rounding)
        right |= own == 0
    found.add("other-scales", name, right)
    divisor = np.copysign(own, scales) if scheme.rounded_after else scales
    shares = blocks / np.where(divisor == 0, np.inf, divisor).astype(np.float32)
    if scheme.levels:
        low, high = _NF4_BETWEEN[values.codes], _NF4_BETWEEN[values.codes + 1]
        right = (shares >= low - _FLOAT32) & (shares <= high + _FLOAT32)
    else:
        right = _are_nearest(values, blocks, own, shares, one, found)
    found.add(one.failure, name, right)


def _are_nearest(
    values: Codes, blocks: Array, own: Array, shares: Array, one: Stored, found: _Found
) -> Array:
    """Whether each code is the one nearest to its weight, in units of its scale."""
    scheme = one.scheme
    assert scheme is not None
    codes = values.codes.astype(np.float32)
    if scheme.zero_points:
        assert values.zero_points is not None
        zero_points = values.zero_points.astype(np.float32)
        lowest = np.minimum(blocks.min(axis=-1, keepdims=True), 0)
        offset = zero_points + lowest / own
        close = np.abs(offset) <= 0.5 + (scheme.most + 1) * _FLOAT32
        found.add("other-zero-points", one.part.name, close | (own == 0) | scheme.searched)
        shares = shares + zero_points
    gap = codes - shares
    tolerance = np.abs(codes) + 1
    tolerance *= _FLOAT32
    tolerance += 0.5
    if one.channels is not None:
        tolerance += np.abs(shares) * _BFLOAT16
    if scheme.searched:
        tolerance += (scheme.most - scheme.least + 1) * _HALF
    if values.scales.dtype == np.float16 and (scheme.searched or not scheme.rounded_after):
        # float16's smallest scales are so coarse that codes are off; under 0 any code is 0
        span = scheme.most - scheme.least + 1
        tolerance = tolerance + span * _SUBNORMAL / np.abs(values.scales.astype(np.float32))
    right = (gap <= tolerance) & (gap >= -tolerance)
    # at its ends a range of codes is cut off
    cut = 0.0 if scheme.rounded_after else (scheme.most - scheme.least + 1) * _HALF
    if not scheme.zero_points and scheme.steps > scheme.most:
        cut += scheme.steps - scheme.most - 0.5 + _FLOAT32 * scheme.steps
    if one.channels is not None:
        cut += scheme.steps * _BFLOAT16
    if scheme.searched:
        cut += _CUT
    if cut:
        right |= (codes == scheme.most) & (gap <= tolerance) & (gap >= -tolerance - cut)
        right |= (codes == scheme.least) & (gap >= -tolerance) & (gap <= tolerance + cut)
    return np.asarray(right)


def _own_scales(blocks: Array, scheme: Scheme) -> Array:
    """The scale that each block of weights makes, shape (rows, blocks, 1)."""
    lowest = blocks.min(axis=-1, keepdims=True).astype(np.float64)
    highest = blocks.max(axis=-1, keepdims=True).astype(np.float64)
    if scheme.zero_points:
        span = np.maximum(highest, 0) - np.minimum(lowest, 0)
    else:
        span = np.maximum(np.abs(lowest), np.abs(highest))
    own = np.maximum(span / scheme.steps, scheme.least_scale)
    if scheme.dead_scale is not None:
        own = np.where(span == 0, scheme.dead_scale, own)
    return np.asarray(own)


def _channel_means(one: Stored, tensor: SourceTensor, found: _Found) -> Array | None:
    """The mean magnitudes of the columns, by which AWQ divides; its stored scales must be these."""
    if one.channels is None:
        return None
    total = np.zeros(one.columns)
    step = max(1, _CHUNK // one.columns)
    for first in range(0, len(tensor.data), step):
        exact = as_float32(tensor, slice(first, first + step))
        total += np.abs(exact).sum(axis=0, dtype=np.float64)
    means = total / len(tensor.data)
    floor = np.finfo(np.float32).eps
    close = np.abs(one.channels - np.maximum(means, floor)) <= means * 2.0**-16 + floor * _HALF
    found.add("other-awq-scales", one.part.name, close)
    return np.maximum(means, floor).astype(np.float32)


def _as_rounded(exact: Array, means: Array | None, dtype: str) -> Array:
    """The weights as they were when their codes were chosen: AWQ has them in the source's type."""
    if means is None:
        return exact
    divided = exact * (np.float32(1) / means)
    if dtype == "F16":
        return np.asarray(divided.astype(np.float16).astype(np.float32))
    if dtype == "BF16":  # OpenVINO's cast does not round half of the even values up
        bits = divided.view(np.uint32)
        bits = (bits + ((bits & np.uint32(0x10000)) >> np.uint32(1))) & np.uint32(0xFFFF0000)
        return np.asarray(bits.view(np.float32))
    return np.asarray(divided)


def unpacked(packed: Array, *, signed: bool) -> Array:
    """Split bytes into two codes each along the last axis, the lower half first."""
    codes = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), dtype=np.uint8)
    codes[..., 0::2] = packed & 15
    codes[..., 1::2] = packed >> 4
    return np.asarray((codes ^ 8).astype(np.int8) - 8 if signed else codes)
