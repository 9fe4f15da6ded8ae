"""Compare an artifact's metrics with the gates of its precision."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

HIGHER_IS_BETTER = frozenset({"top1_agreement"})


MetricName = Annotated[str, re.compile("top1_agreement|mean_kl|max_kl|perplexity_ratio")]


@dataclass(frozen=True)
class Metrics:
    """An artifact's distance from the reference.

    Attributes:
        positions: how many were scored.
        top1_agreement: share of positions with the reference's most probable token first.
        mean_kl, max_kl: KL(reference || artifact) over the positions, in nats.
        perplexity_ratio: exp of the mean difference of the negative log-likelihoods of the
            tokens that really follow, artifact minus reference; 1 is equal, above 1 is worse.
    """

    positions: int
    top1_agreement: float
    mean_kl: float
    max_kl: float
    perplexity_ratio: float


@dataclass(frozen=True)
class Gates:
    """The gates of one precision.

    Attributes:
        limits: metric to gate; a metric that is only reported is not among them.
        digest: SHA-256 of the acceptance file.
        minimum_validated_tokens: the longest sequence that ran must have so many tokens.
    """

    limits: Mapping[MetricName, float]
    digest: str
    minimum_validated_tokens: int = 0

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
        values: Mapping[str, float] = asdict(metrics)
        return {
            name: (values[name], gate)
            for name, gate in self.limits.items()
            if not self.passed(name, values[name])
        }
