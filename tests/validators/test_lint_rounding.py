"""Weights rounded in secret are seen, honest ones are not, whatever their distribution."""

import numpy as np
import pytest
from numpy.typing import NDArray

from validators.lint.rounding import Matrix, is_rounded

Floats = NDArray[np.float64]
ROWS, COLUMNS = 64, 3072  # the input side of Phi-3-mini


def weights(kind: str) -> Floats:
    random = np.random.default_rng(7)
    if kind == "gaussian":
        return random.normal(0, 0.02, (ROWS, COLUMNS))
    if kind == "heavy tails":
        return 0.02 * random.standard_t(3, (ROWS, COLUMNS))
    if kind == "outlier channels":
        found = random.normal(0, 0.02, (ROWS, COLUMNS))
        found[:, ::500] *= 40
        return found
    values = random.normal(0, 0.02, (ROWS, COLUMNS))
    return values * (random.random(values.shape) < 0.4)  # sparse


def bfloat16(values: Floats) -> NDArray[np.float16]:
    kept = values.astype(np.float32).view(np.uint32) & 0xFFFF0000
    return kept.view(np.float32).astype(np.float16)


def codes(values: Floats, bits: int, group: int) -> tuple[NDArray[np.int64], Floats]:
    """Asymmetric codes of ``bits``, and the values that they stand for."""
    parts = values.reshape(len(values), -1, group)
    low = np.minimum(parts.min(axis=-1, keepdims=True), 0)
    step = (np.maximum(parts.max(axis=-1, keepdims=True), 0) - low) / (2**bits - 1)
    found = np.round((parts - low) / step).astype(np.int64)
    return found.reshape(values.shape), (found * step + low).reshape(values.shape)


def packed(found: NDArray[np.int64]) -> NDArray[np.uint8]:
    return (found[:, ::2] | (found[:, 1::2] << 4)).astype(np.uint8)


@pytest.mark.parametrize("kind", ["gaussian", "heavy tails", "outlier channels", "sparse"])
def test_honest_weights_are_left_alone(kind: str) -> None:
    values = weights(kind)
    assert not is_rounded(Matrix("fp16", bfloat16(values), 16))
    assert not is_rounded(Matrix("fp16", bfloat16(values).T, 16))
    assert not is_rounded(Matrix("int8", codes(values, 8, COLUMNS)[0].astype(np.uint8), 8))
    for group in (32, 128, COLUMNS):
        assert not is_rounded(Matrix("int4", packed(codes(values, 4, group)[0]), 4))


@pytest.mark.parametrize("kind", ["gaussian", "heavy tails"])
@pytest.mark.parametrize("group", [32, 64, 128, COLUMNS])
def test_rounded_weights_are_seen(kind: str, group: int) -> None:
    rounded = codes(weights(kind), 4, group)[1]
    assert is_rounded(Matrix("fp16", rounded.astype(np.float16), 16))
    assert is_rounded(Matrix("fp16", np.ascontiguousarray(rounded.T.astype(np.float16)), 16))
    assert is_rounded(Matrix("int8", codes(rounded, 8, COLUMNS)[0].astype(np.uint8), 8))


def test_codes_of_three_bits_are_seen_in_four() -> None:
    found = codes(weights("gaussian"), 3, 128)[0] * 2
    assert is_rounded(Matrix("int4", packed(found), 4))


LEVELS = np.array(
    [
        *(-1, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0),
        *(0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.723, 1),
    ]
)


def nf4_codes(values: Floats, levels: Floats) -> NDArray[np.int64]:
    """Codes of the nearest of some ``levels``, by whole rows."""
    shares = values / np.abs(values).max(axis=1, keepdims=True)
    nearest = np.searchsorted((levels[1:] + levels[:-1]) / 2, shares)
    return np.asarray(np.searchsorted(LEVELS, levels)[nearest])


@pytest.mark.parametrize("kind", ["gaussian", "heavy tails", "outlier channels", "sparse"])
def test_nf4_codes_are_left_alone_unless_every_second_level_is_unused(kind: str) -> None:
    assert not is_rounded(Matrix("nf4", packed(nf4_codes(weights(kind), LEVELS)), 4))
    if kind == "gaussian":  # the others are mostly zeros then, which say nothing
        assert is_rounded(Matrix("nf4", packed(nf4_codes(weights(kind), LEVELS[1::2])), 4))


def test_dead_and_narrow_matrices_say_nothing() -> None:
    assert not is_rounded(Matrix("zeros", np.zeros((64, 256), np.float16), 16))
    assert not is_rounded(Matrix("narrow", np.ones((64, 8), np.uint8), 8))
    tokens = bfloat16(weights("gaussian"))
    tokens[8:] = tokens[0, 0]  # untrained rows
    assert not is_rounded(Matrix("embedding", tokens, 16))
