"""What a check comes to: the metrics, and what stands against the artifact (`validators.verdict`).

Apart from what works it out, so that who only reads or writes it need not import numpy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from validators.lint.finding import Finding


@dataclass(frozen=True)
class Metrics:
    """An artifact against the reference.

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
class Failure:
    """Something that stands against the artifact."""

    name: str
    what: str
    prompt: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What a receipt says of an observation.

    Attributes:
        failures: empty if the artifact passed.
        golden: one entry a golden prompt, in the receipt's form.
        metrics: None if a prompt could not be scored.
        validated_tokens: the longest sequence that ran.
        notes: what is reported of the tokenizer, not judged.
    """

    failures: tuple[Failure, ...]
    golden: tuple[Mapping[str, Any], ...]
    metrics: Metrics | None
    validated_tokens: int = field(default=0)
    notes: tuple[Finding, ...] = ()
