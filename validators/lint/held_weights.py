"""Hold a payload's weights to the source's, value by value, and give them out to compute with.

Rounding to the nearest is a theorem: each code is the one nearest to its weight under the scale of
its block, and the scale is what the block's own weights make of it. Both are checked, because
either alone proves nothing: codes made anew under doubled scales are all nearest. Float weights are
the source's, cast. Every row is read, whether a prompt uses it or not.

Tolerances are what float32 arithmetic and float16 scales may be off. A comparison is written so
that NaN fails it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phiforge.receipts.receipt import Failure
from phiforge.sources.weights import SourceTensor, tensor_of
from validators.contract import some
from validators.lint.weights import NF4, Array, Codes, Scheme, Stored

_CHUNK = 1 << 18  # weights; what is made of them stays in a cache
_FLOAT32 = 2.0**-20  # a few roundings of float32, as a share
_HALF = 2.0**-11  # float16's rounding, as a share
_SUBNORMAL = 2.0**-25  # and of its smallest values
_BFLOAT16 = 2.0**-7  # two roundings of bfloat16, one of them a truncation
_NEAR = 0.5, 1.25  # of the own scale: where a searched one lies
_CUT = 2.0  # codes: how far a searched scale's range may leave the largest weights out
_LEVELS = torch.from_numpy(NF4).float()
_BETWEEN = torch.cat(
    [torch.tensor([-np.inf]), (_LEVELS[1:] + _LEVELS[:-1]) / 2, torch.tensor([np.inf])]
)
"""Bounds of what each of NF4's codes stands for."""
_KINDS: Mapping[str, str] = {
    "other-weights": "weights are not the source's, rounded or cast as declared",
    "other-embedding": "weights of the embedding are not the source's",
    "other-norms": "weights of norms are not the source's",
    "other-scales": "scales are not what the source's weights under them make",
    "other-zero-points": "zero points are not what the source's weights under them make",
    "other-awq-scales": "channel scales are not the mean magnitudes of the source's columns",
}


class Weights:
    """The weights of a payload in float32, by the source's names, made when they are asked for."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self._parts: dict[str, list[Stored]] = {}
        for one in stored:
            self._parts.setdefault(one.part.tensor, []).append(one)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(one.part.rows * one.columns for parts in self._parts.values() for one in parts)

    def of(self, name: str) -> Tensor:
        """Make a tensor in float32, (rows, columns); a norm's is a vector.

        A tied LM head is the embedding.
        """
        parts = self._parts.get(name) or self._parts["model.embed_tokens.weight"]
        values = torch.empty(max(one.part.first + one.part.rows for one in parts), parts[0].columns)
        for one in parts:
            for rows in _chunks(one):
                chosen = slice(one.part.first + rows.start, one.part.first + rows.stop)
                values[chosen] = _floats(one, one.read(rows))
        return values[0] if name.endswith("norm.weight") else values


def hold_to_source(
    stored: Sequence[Stored], tensors: Mapping[str, SourceTensor], source: Path
) -> list[Failure]:
    """Compare every value of ``stored`` with the ``tensors`` of ``source``.

    Raises:
        SourceError: the source lacks a tensor.
    """
    found, threads = _Found(), torch.get_num_threads()
    torch.set_num_threads(1)  # chunks are small: threads would wait for one another
    try:
        _hold_all(stored, tensors, source, found)
    finally:
        torch.set_num_threads(threads)
    return found.failures()


def _hold_all(
    stored: Sequence[Stored], tensors: Mapping[str, SourceTensor], source: Path, found: "_Found"
) -> None:
    for one in stored:
        tensor = tensor_of(one.part.tensor, tensors, source)
        flat = SourceTensor(tensor.dtype, tensor.data.reshape(-1, one.columns))
        means = _channel_means(one, flat, found)
        for rows in _chunks(one):
            values = one.read(rows)
            above = slice(one.part.first + rows.start, one.part.first + rows.stop)
            exact = _as_rounded(_widened(flat, above), means, tensor.dtype)
            if isinstance(values, Codes):
                _hold_codes(one, values, exact, found)
            else:
                _hold_floats(one, values, exact, found)


def _chunks(one: Stored) -> Iterator[slice]:
    step = max(1, _CHUNK // one.columns)
    for first in range(0, one.part.rows, step):
        yield slice(first, min(first + step, one.part.rows))


@dataclass
class _Found:
    """What is wrong, by failure name: matrix to how many of its values or blocks."""

    wrong: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, failure: str, one: Stored, wrong: Tensor) -> None:
        count = int(torch.count_nonzero(wrong))
        if count:
            known = self.wrong.setdefault(failure, {})
            known[one.part.name] = known.get(one.part.name, 0) + count

    def failures(self) -> list[Failure]:
        return [
            Failure(name, f"{sum(found.values())} {_KINDS[name]}: {some(sorted(found))}")
            for name, found in sorted(self.wrong.items())
        ]


def _hold_floats(one: Stored, values: Array, exact: Tensor, found: _Found) -> None:
    floats = _tensor(values)
    bits = torch.int16 if floats.dtype is torch.float16 else torch.int32
    cast = exact.to(floats.dtype)  # as bits: a NaN is no other NaN, and zero has a sign
    if not torch.equal(floats.view(bits), cast.view(bits)):
        found.add(one.failure, one, floats.view(bits) != cast.view(bits))


def _hold_codes(one: Stored, values: Codes, exact: Tensor, found: _Found) -> None:
    scheme = one.scheme
    assert scheme is not None
    codes = _codes(values)
    if scheme.cast is not None:
        exact = exact.half().float()
    blocks = exact.view(codes.shape)
    lowest, highest = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
    own = _own_scales(lowest.double(), highest.double(), scheme)
    scales = _tensor(values.scales).double()
    slack = _FLOAT32 if one.channels is None else _BFLOAT16
    rounding = torch.zeros_like(own)
    if values.scales.dtype != np.float32:
        rounding = scheme.roundings * (own * _HALF).clamp(min=_SUBNORMAL)
    right = (scales.abs() - own).abs() <= rounding + own * slack
    if scheme.searched:
        right = (scales >= own * _NEAR[0] - rounding) & (scales <= own * _NEAR[1] + rounding)
        right |= own == 0
    found.add("other-scales", one, ~right)
    divisor = torch.copysign(own, scales) if scheme.rounded_after else scales
    shares = blocks / torch.where(divisor == 0, torch.inf, divisor).float()
    if scheme.levels:
        index = codes.long()
        right = (shares >= _BETWEEN[index] - _FLOAT32) & (shares <= _BETWEEN[index + 1] + _FLOAT32)
        found.add(one.failure, one, ~right)
        return
    if scheme.zero_points:
        assert values.zero_points is not None
        points = _tensor(values.zero_points).float()
        offset = points + lowest.clamp(max=0) / own
        close = offset.abs() <= 0.5 + (scheme.most + 1) * _FLOAT32
        found.add("other-zero-points", one, ~(close | (own == 0) | scheme.searched))
        shares += points
    _hold_nearest(one, values, codes, shares, found)


def _hold_nearest(one: Stored, values: Codes, codes: Tensor, shares: Tensor, found: _Found) -> None:
    """Each code is the one nearest to its weight, in units of its scale, or the last one."""
    scheme = one.scheme
    assert scheme is not None
    kept = shares.clamp(scheme.least, scheme.most)
    span = scheme.most - scheme.least + 1
    tolerance = torch.full(
        (1, 1, 1), 0.5 + (max(-scheme.least, scheme.most) + 1) * _FLOAT32 + _cut(scheme)
    )
    if one.channels is not None:
        tolerance = tolerance + kept.abs() * _BFLOAT16
    if values.scales.dtype == np.float16 and (scheme.searched or not scheme.rounded_after):
        # float16's smallest scales are so coarse that codes are off; under 0 any code is 0
        tolerance = tolerance + span * _SUBNORMAL / _tensor(values.scales).float().abs()
    if scheme.searched:
        found.add(one.failure, one, ~((shares - kept).abs() <= _CUT + tolerance))
    gap = kept.sub_(codes).abs_()
    if not bool((gap.amax(-1, keepdim=True) <= tolerance.amin(-1, keepdim=True)).all()):
        found.add(one.failure, one, ~(gap <= tolerance))


def _channel_means(one: Stored, tensor: SourceTensor, found: _Found) -> Tensor | None:
    """The columns' mean magnitudes, by which AWQ divides; its stored scales must be these."""
    if one.channels is None:
        return None
    total = torch.zeros(one.columns, dtype=torch.float64)
    step = max(1, _CHUNK // one.columns)
    for first in range(0, len(tensor.data), step):
        total += _widened(tensor, slice(first, first + step)).abs().double().sum(0)
    means = total / len(tensor.data)
    floor = float(np.finfo(np.float32).eps)
    known = means.clamp(min=floor)
    close = (_tensor(one.channels) - known).abs() <= means * 2.0**-16 + floor * _HALF
    found.add("other-awq-scales", one, ~close)
    return known.float()


def _cut(scheme: Scheme) -> float:
    """How much more a code may be off where its scale was searched."""
    return (scheme.most - scheme.least + 1) * _HALF if scheme.searched else 0.0


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values))  # a copy: what is mapped cannot be written


def _widened(tensor: SourceTensor, rows: slice) -> Tensor:
    """Some rows of the source in float32, which holds them exactly."""
    found = _tensor(tensor.data[rows])
    return (found.view(torch.bfloat16) if tensor.dtype == "BF16" else found).float()


def _codes(values: Codes) -> Tensor:
    """Codes as float32, (rows, blocks, block size); zero points are not subtracted."""
    stored = _tensor(values.stored)
    if values.four_bits:
        pairs = stored.to(torch.int16)
        if values.signed:
            pairs ^= 0x88
        stored = ((pairs & 15) | ((pairs & 0xF0) << 4)).view(torch.uint8)
    codes = stored.float().view(*values.scales.shape[:2], -1)
    excess = 8 if values.signed else values.excess
    return codes.sub_(excess) if excess else codes


def _floats(one: Stored, values: Codes | Array) -> Tensor:
    """What the graph computes with, (rows, columns)."""
    if isinstance(values, Codes):
        floats = _codes(values)
        if one.scheme is not None and one.scheme.levels:
            floats = _LEVELS[floats.long()]
        if values.zero_points is not None:
            floats -= _tensor(values.zero_points).float()
        floats *= _tensor(values.scales).float()
        floats = floats.view(len(floats), one.columns)
    else:
        floats = _tensor(values).float()
    return floats if one.channels is None else floats * _tensor(one.channels).float()


def _own_scales(lowest: Tensor, highest: Tensor, scheme: Scheme) -> Tensor:
    """The scale that each block makes, of its lowest and highest weight, (rows, blocks, 1)."""
    if scheme.zero_points:
        span = highest.clamp(min=0) - lowest.clamp(max=0)
    else:
        span = torch.maximum(lowest.abs(), highest.abs())
    own = (span / scheme.steps).clamp(min=scheme.least_scale)
    if scheme.dead_scale is not None:
        own = torch.where(span == 0, scheme.dead_scale, own)
    return own


def _as_rounded(exact: Tensor, means: Tensor | None, dtype: str) -> Tensor:
    """The weights as they were when their codes were chosen: AWQ has them in the source's type."""
    if means is None:
        return exact
    divided = exact * (1 / means)
    if dtype == "F16":
        return divided.half().float()
    if dtype == "BF16":  # OpenVINO's cast does not round half of the even values up
        bits = divided.view(torch.int32)
        return ((bits + ((bits & 0x10000) >> 1)) & -0x10000).view(torch.float32)
    return divided
