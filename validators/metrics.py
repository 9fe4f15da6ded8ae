"""How far an artifact's predictions are from the reference's, in float64.

The reference keeps the 64 most probable tokens of a position and sums up the rest of its
vocabulary as one outcome, the remainder. The artifact's distribution is truncated the same way, and

    KL(reference || artifact) = sum of p * (log p - log q) over those 65 outcomes, in nats.

Merging outcomes is a (deterministic) channel, so by the data processing inequality for relative
entropy (Cover and Thomas, Elements of Information Theory, 2nd ed., theorem 2.7.1, the log-sum
inequality, and section 2.8) this is a lower bound of the divergence over the whole vocabulary.
It is exact in the 64 outcomes that carry nearly all of the mass.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phiforge.receipts.gates import Metrics
from validators.contract import ArtifactError, LogProbabilities

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

TOP = 64


@dataclass(frozen=True)
class TopKDistribution:
    """Distributions over the next token, truncated; first axis: positions.

    Attributes:
        top_ids: the reference's most probable tokens, (positions, 64), most probable first.
        top: log-probabilities of ``top_ids``, (positions, 64).
        remainder: log-probability of all other tokens together, (positions,); -inf if there are
            none.
        first: the most probable token of the distribution itself, (positions,).
        following: log-probability of the token that really follows, (positions,).
    """

    top_ids: Integers
    top: Floats
    remainder: Floats
    first: Integers
    following: Floats

    @property
    def is_normalised(self) -> bool:
        """Whether the probabilities at each position add up to 1; else no divergence means any."""
        total = np.exp(self.top).sum(axis=-1) + np.exp(self.remainder)
        return bool(np.allclose(total, 1.0, rtol=0.0, atol=1e-6))

    def beginning(self, count: int) -> "TopKDistribution":
        """Return the first ``count`` positions."""
        return TopKDistribution(
            **{one.name: getattr(self, one.name)[:count] for one in fields(self)}
        )


def log_probabilities(logits: ArrayLike) -> LogProbabilities:
    """Log-softmax over the last axis, in float64.

    Raises:
        ArtifactError: ``nan-logits`` or ``inf-logits``; a model that means something has neither.
    """
    values = np.asarray(logits, dtype=np.float64)
    if np.isnan(values).any():
        raise ArtifactError("nan-logits", f"{int(np.isnan(values).sum())} logits are NaN")
    if np.isinf(values).any():
        raise ArtifactError("inf-logits", f"{int(np.isinf(values).sum())} logits are infinite")
    shifted = values - values.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def most_probable(scores: LogProbabilities, count: int = TOP) -> Integers:
    """Ids of the ``count`` most probable tokens, most probable first, (positions, count).

    Equal probabilities are ordered by id, so that the choice is the same everywhere.
    """
    order = np.argsort(-scores, axis=-1, kind="stable")
    return np.asarray(order[:, : min(count, scores.shape[-1])], dtype=np.int64)


def truncate_top_k(
    scores: LogProbabilities, top_ids: Integers, following: ArrayLike
) -> TopKDistribution:
    """Keep ``top_ids`` of each position and sum up the rest of the vocabulary.

    Args:
        scores: (positions, vocabulary), normalised.
        top_ids: (positions, kept).
        following: ids of the tokens that really follow, (positions,).

    Raises:
        ArtifactError: ``small-vocabulary``, a wanted token is not among the logits.
    """
    following = np.asarray(following, dtype=np.int64)
    wanted = int(max(top_ids.max(initial=0), following.max(initial=0))) + 1
    if scores.shape[-1] < wanted:
        raise ArtifactError(
            "small-vocabulary",
            f"the logits have {scores.shape[-1]} entries, the reference names token {wanted - 1}",
        )
    rows = np.arange(len(scores))
    rest = scores.copy()
    np.put_along_axis(rest, top_ids, -np.inf, axis=-1)
    # Summed over its own tokens: 1 minus the others would cancel to noise.
    peak = rest.max(axis=-1)
    base = np.where(np.isfinite(peak), peak, 0.0)
    with np.errstate(divide="ignore"):
        remainder = base + np.log(np.exp(rest - base[:, None]).sum(axis=-1))
    return TopKDistribution(
        top_ids=top_ids,
        top=np.take_along_axis(scores, top_ids, axis=-1),
        remainder=remainder,
        first=np.asarray(scores.argmax(axis=-1), dtype=np.int64),
        following=scores[rows, following],
    )


def kl_divergence(reference: TopKDistribution, artifact: TopKDistribution) -> Floats:
    """Return KL(reference || artifact) of each position, in nats: a lower bound."""
    top = (np.exp(reference.top) * (reference.top - artifact.top)).sum(axis=-1)
    mass = np.exp(reference.remainder)
    with np.errstate(invalid="ignore"):
        rest = np.where(mass > 0, mass * (reference.remainder - artifact.remainder), 0.0)
    # Exact arithmetic cannot give less than 0; rounding can, by about 1e-16.
    return np.asarray(np.maximum(top + rest, 0.0))


def compare(reference: TopKDistribution, artifact: TopKDistribution) -> Metrics:
    """Compute all metrics over all positions of both."""
    divergence = kl_divergence(reference, artifact)
    with np.errstate(over="ignore"):
        ratio = float(np.exp((reference.following - artifact.following).mean()))
    return Metrics(
        positions=len(divergence),
        top1_agreement=float((reference.first == artifact.first).mean()),
        mean_kl=float(divergence.mean()),
        max_kl=float(divergence.max()),
        perplexity_ratio=ratio,
    )


def concatenate(parts: Sequence[TopKDistribution]) -> TopKDistribution:
    """Join the positions of ``parts``, in their order."""
    names = [field.name for field in fields(TopKDistribution)]
    return TopKDistribution(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    )
