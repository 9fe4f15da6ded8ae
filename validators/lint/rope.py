"""RoPE by formula, from the source's configuration.

LongRoPE has two sets of frequencies, for sequences up to a length and for longer ones
(https://github.com/huggingface/transformers, modeling_rope_utils.py,
``_compute_longrope_parameters``).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from phiforge.receipts.receipt import Failure
from validators.lint.architecture import Architecture

Array = npt.NDArray[Any]

OTHER_ROPE = "other-rope"
_FLOAT32 = 2.0**-20  # a few roundings, as a share
_HALF = 2.0**-11


@dataclass(frozen=True)
class Rope:
    """The rotation of a model.

    Attributes:
        frequencies: inverse, shape (rotated dimensions / 2).
        length: how many positions the model has.
        beyond: the frequencies of sequences longer than `switch`; None: the same.
        switch: the longest sequence, in tokens, that takes `frequencies`.
        magnitude: what cosines and sines are multiplied by.
    """

    frequencies: Array
    length: int
    beyond: Array | None = None
    switch: int = 0
    magnitude: float = 1.0


def rope_of(architecture: Architecture) -> Rope | None:
    """Read a model's rotation; None: of a kind that has no formula here."""
    config = architecture.config
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}

    def value(key: str, otherwise: Any = None) -> Any:
        return given.get(key) or config.get(key) or otherwise

    dimensions = int(architecture.head_size * float(value("partial_rotary_factor", 1.0)))
    exponents = np.arange(0, dimensions, 2, dtype=np.float64) / dimensions
    plain = float(value("rope_theta", 10000.0)) ** -exponents
    length = int(config["max_position_embeddings"])
    kind = given.get("rope_type") or given.get("type") or "default"
    if kind == "default":
        return Rope(plain, length)
    if kind not in ("longrope", "su"):
        return None
    switch = int(value("original_max_position_embeddings", length))
    factor = float(given.get("factor") or length / switch)
    magnitude = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(switch))
    short, beyond = (plain / np.asarray(given[key]) for key in ("short_factor", "long_factor"))
    return Rope(short, length, beyond, switch, float(given.get("attention_factor") or magnitude))


def lint_caches(kind: str, small: Array, large: Array, rope: Rope) -> list[Failure]:
    """Compare the caches of LongRoPE's short and long sequences."""
    assert rope.beyond is not None
    return [
        *lint_cache(f"{kind} (short)", small, rope.frequencies, rope.switch, rope.magnitude),
        *lint_cache(f"{kind} (long)", large, rope.beyond, rope.length, rope.magnitude),
    ]


def lint_cache(
    name: str, values: Array, frequencies: Array, length: int, magnitude: float
) -> list[Failure]:
    """Compare a cache, shape (positions, rotated dimensions / 2)."""
    if values.shape != (length, len(frequencies)):
        what = f"{name}_cache has shape {list(values.shape)}, not {[length, len(frequencies)]}"
        return [Failure(OTHER_ROPE, what)]
    angles = np.arange(length, dtype=np.float64)[:, None] * frequencies
    exact = (np.cos(angles) if name.startswith("cos") else np.sin(angles)) * magnitude
    # float32's angles are off by a share of the position
    off = angles * 2.0**-21 + (_HALF if values.itemsize == 2 else 1e-6)
    rows = np.flatnonzero(~(np.abs(values - exact) <= off * magnitude).all(axis=1))
    if not len(rows):
        return []
    what = f"{name}_cache is not RoPE's at {len(rows)} of {length} positions, first {rows[0]}"
    return [Failure(OTHER_ROPE, what)]


def close(found: Array | None, expected: Array | None) -> bool:
    """Whether values are the expected ones, but for a few roundings in float32."""
    if found is None or expected is None or found.size != expected.size:
        return False
    flat = expected.reshape(-1)
    return bool((np.abs(found.reshape(-1) - flat) <= np.abs(flat) * _FLOAT32).all())
