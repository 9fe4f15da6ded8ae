"""Compare an artifact's metrics with the gates of its precision."""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import Annotated

HIGHER_IS_BETTER = frozenset({"top1_agreement"})
PINNED_KL = 1e-8
"""Gate of `Metrics.execution_kl` where the numerics are float32; honest are at most 1e-12."""


MetricName = Annotated[
    str, re.compile("top1_agreement|mean_kl|max_kl|perplexity_ratio|execution_kl")
]


@dataclass(frozen=True)
class Metrics:
    """An artifact's distance from the reference.

    Attributes:
        positions: how many were scored.
        top1_agreement: share of positions with the reference's most probable token first.
        mean_kl, max_kl: KL(reference || artifact) over the positions, in nats.
        perplexity_ratio: exp of the mean difference of the negative log-likelihoods of the
            tokens that really follow, artifact minus reference; 1 is equal, above 1 is worse.
        execution_kl: mean KL divergence from float32 arithmetic with the artifact's own weights, at
            the answers' positions; None: the weights were not at hand.
        weights_kl: what these weights cost: mean KL(reference || float32 arithmetic with them).
    """

    positions: int
    top1_agreement: float
    mean_kl: float
    max_kl: float
    perplexity_ratio: float
    execution_kl: float | None = None
    weights_kl: float | None = None

    @property
    def is_finite(self) -> bool:
        """Return whether each value that is there is a finite number."""
        return all(math.isfinite(value) for value in astuple(self) if value is not None)


@dataclass(frozen=True)
class Gates:
    """The gates of one precision.

    Attributes:
        limits: metric to gate; a metric that is only reported is not among them.
        digest: SHA-256 of the acceptance file.
        minimum_validated_tokens: the longest sequence that ran must have so many tokens.
        execution_kl: gate of that metric for arithmetic that is not pinned to float32.
    """

    limits: Mapping[MetricName, float]
    digest: str
    minimum_validated_tokens: int = 0
    execution_kl: float = 0.0

    def of_run(self, *, held: bool, pinned: Mapping[str, str]) -> "Gates":
        """Return the gates of one run.

        Args:
            held: the artifact's own weights were at hand to compute with.
            pinned: the numerics that the check laid down. OpenVINO's NPU pipeline has no option for
                its key-value cache, so its stand-in is not float32 throughout.
        """
        if not held:
            return self
        gate = PINNED_KL if pinned.get("KV_CACHE_PRECISION") == "f32" else self.execution_kl
        return replace(self, limits={**self.limits, "execution_kl": gate})

    @property
    def thresholds(self) -> dict[str, float]:
        """Return every number that a receipt is judged by, in the receipt's form."""
        return {**self.limits, "validated_tokens": self.minimum_validated_tokens}

    def passed(self, name: str, value: float) -> bool:
        """Return whether ``value`` of metric ``name`` meets its gate, or has none."""
        if name not in self.limits:
            return True
        gate = self.limits[name]
        return value >= gate if name in HIGHER_IS_BETTER else value <= gate

    def broken(self, metrics: Metrics) -> dict[str, tuple[float, float]]:
        """Return metric to (value, gate), for every gate that ``metrics`` does not meet."""
        known: Mapping[str, float | None] = asdict(metrics)
        values = {name: math.nan if value is None else value for name, value in known.items()}
        return {
            name: (values[name], gate)
            for name, gate in self.limits.items()
            if not self.passed(name, values[name])
        }
