"""Simulate in transformers what a model pays for coarser arithmetic and coarser weights.

A model's own gates follow from it (`validators.acceptance`): what bfloat16 arithmetic costs at the
answers' positions bounds what an honest device may be off, and what each precision of the weights
costs, rounded row by row as the coarsest of the variants does, bounds an honest conversion.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from phiforge.sources.weights import as_float32, mapped_source_weights, tensor_of
from validators.layerwise import Way, layerwise
from validators.lint.architecture import read_architecture
from validators.lint.weights import NF4
from validators.metrics import (
    TopKDistribution,
    concatenate,
    kl_divergence,
    log_probabilities,
    truncate_top_k,
)
from validators.positions import affordable
from validators.reference_tree import ReferencePrompt, Scored

ARITHMETIC = "bfloat16"
LONGEST = 1024
"""Tokens of a prompt that is simulated; where all are longer, all are."""


def simulated_costs(
    source: Path, prompts: Sequence[ReferencePrompt], scored: Sequence[Scored]
) -> dict[str, dict[str, float]]:
    """Return what is simulated to its cost against the reference, in nats.

    The keys are ``bfloat16`` and the precisions of `ROUNDINGS`; a cost has ``mean_kl`` and
    ``max_kl`` over the scored positions, and ``answers_mean_kl`` over those of the answers, of
    which a synthetic model has none: then over all. Empty: the source is no Phi-3.

    Args:
        scored: the reference's own predictions, one a prompt.
    """
    if read_architecture(source) is None:
        return {}
    short = [len(prompt.sequence) <= LONGEST for prompt in prompts]
    if any(short):
        prompts = [one for one, fits in zip(prompts, short, strict=True) if fits]
        scored = [one for one, fits in zip(scored, short, strict=True) if fits]
    whole = [(prompt.sequence, one.positions) for prompt, one in zip(prompts, scored, strict=True)]
    ways = {ARITHMETIC: Way(dtype=torch.bfloat16)}
    ways |= {precision: Way(rounding) for precision, rounding in ROUNDINGS.items()}
    with torch.inference_mode(), mapped_source_weights(source) as tensors:
        count = sum(one.data.size for one in tensors.values())
        chosen = list(affordable(whole, count))
        answers = layerwise(
            source,
            lambda name: torch.from_numpy(
                as_float32(tensor_of(name, tensors, source), slice(None))
            ),
            [(ids, positions) for _, ids, positions in chosen],
            list(ways.values()),
        )
    prompts = [prompts[index] for index, _, _ in chosen]
    known = [scored[index].distribution.beginning(len(positions)) for index, _, positions in chosen]
    wanted = [positions for _, _, positions in chosen]
    return {
        name: _cost(logits, prompts, wanted, known)
        for name, logits in zip(ways, answers, strict=True)
    }


def _cost(
    logits: Sequence[Tensor],
    prompts: Sequence[ReferencePrompt],
    wanted: Sequence[Sequence[int]],
    known: Sequence[TopKDistribution],
) -> dict[str, float]:
    found: list[TopKDistribution] = []
    answers: list[bool] = []
    for values, prompt, positions, exact in zip(logits, prompts, wanted, known, strict=True):
        following = [prompt.sequence[position + 1] for position in positions]
        found.append(truncate_top_k(log_probabilities(values.numpy()), exact.top_ids, following))
        answers += map(prompt.is_answer_after, positions)
    divergence = kl_divergence(concatenate(list(known)), concatenate(found))
    chosen = divergence[np.array(answers)] if any(answers) else divergence
    return {
        "mean_kl": float(divergence.mean()),
        "max_kl": float(divergence.max()),
        "answers_mean_kl": float(chosen.mean()),
    }


def with_zero_points(weight: Tensor, levels: int) -> Tensor:
    """Round each row to equal steps between its extremes and 0, as nncf's asymmetric modes do."""
    low, high = weight.amin(-1, keepdim=True).clamp(max=0), weight.amax(-1, keepdim=True)
    scale = ((high.clamp(min=0) - low) / (levels - 1)).clamp(min=2.0**-23)
    zero = (-low / scale).round()
    return ((weight / scale + zero).round().clamp(0, levels - 1) - zero) * scale


def _int8(weight: Tensor) -> Tensor:
    return with_zero_points(weight, 256)


def _int4(weight: Tensor) -> Tensor:
    low, high = weight.amin(-1, keepdim=True), weight.amax(-1, keepdim=True)
    scale = torch.where(-low >= high, -low, -high) / 8
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (weight / scale).round().clamp(-8, 7) * scale


_BINS = 1 << 12
_LEVELS = torch.from_numpy(NF4).float()
_NEAREST = _LEVELS[
    torch.bucketize(torch.linspace(-1, 1, _BINS + 1), (_LEVELS[1:] + _LEVELS[:-1]) / 2)
]
"""The level by the share of the scale, in bins: a search takes four times as long."""


def _nf4(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(-1, keepdim=True).clamp(min=2.0**-23)
    bins = (weight / scale).add_(1).mul_(_BINS / 2).round_()
    return _NEAREST.take(bins.long()) * scale


def by_rows(rounding: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Round few rows at a time, so that what is made of them stays in a cache."""

    def rounded(weight: Tensor) -> Tensor:
        rows = max(1, _CHUNK // weight.shape[1])
        return torch.cat([rounding(some) for some in torch.split(weight, rows)])

    return rounded


_CHUNK = 1 << 18
ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "int8": by_rows(_int8),
    "int4": by_rows(_int4),
    "nf4": by_rows(_nf4),
}
"""By precision of the weights: a matrix rounded row by row."""
