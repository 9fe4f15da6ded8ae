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

from validators.float32_model import load, pretrained, teacher_forced
from validators.lint.weights import NF4
from validators.metrics import TopKDistribution, concatenate, kl_divergence, truncate_top_k
from validators.reference_tree import ReferencePrompt, Scored

ARITHMETIC = "bfloat16"
LONGEST = 1024
"""Tokens of a prompt that is simulated; where all are longer, all are."""


def simulated_costs(
    source: Path, prompts: Sequence[ReferencePrompt], scored: Sequence[Scored], *, hold: str
) -> dict[str, dict[str, float]]:
    """Return what is simulated to its cost against the reference, in nats.

    The keys are ``bfloat16`` and the precisions of `ROUNDINGS`; a cost has ``mean_kl`` and
    ``max_kl`` over the scored positions, and ``answers_mean_kl`` over those of the answers.

    Args:
        scored: the reference's own predictions, one a prompt.
        hold: how weights are held (`validators.float32_model.load`).
    """
    short = [len(prompt.sequence) <= LONGEST for prompt in prompts]
    if any(short):
        prompts = [one for one, fits in zip(prompts, short, strict=True) if fits]
        scored = [one for one, fits in zip(scored, short, strict=True) if fits]
    costs = {ARITHMETIC: _cost(pretrained(source, torch.bfloat16), prompts, scored)}
    for precision, rounding in ROUNDINGS.items():
        model = load(source, hold=hold).model
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 2 and "embed_tokens" not in name:
                    weight.copy_(rounding(weight.float()))
        costs[precision] = _cost(model, prompts, scored)
        del model  # the next one takes its place in memory
    return costs


def _cost(
    model: torch.nn.Module, prompts: Sequence[ReferencePrompt], scored: Sequence[Scored]
) -> dict[str, float]:
    found: list[TopKDistribution] = []
    answers: list[bool] = []
    for prompt, one in zip(prompts, scored, strict=True):
        following = [prompt.sequence[position + 1] for position in one.positions]
        scores = teacher_forced(model, prompt.sequence, one.positions)
        found.append(truncate_top_k(scores, one.distribution.top_ids, following))
        answers += map(prompt.is_answer_after, one.positions)
    known = concatenate([one.distribution for one in scored])
    divergence = kl_divergence(known, concatenate(found))
    chosen = divergence[np.array(answers)]
    return {
        "mean_kl": float(divergence.mean()),
        "max_kl": float(divergence.max()),
        "answers_mean_kl": float(chosen.mean()),
    }


def _int8(weight: Tensor) -> Tensor:
    low, high = weight.amin(-1, keepdim=True).clamp(max=0), weight.amax(-1, keepdim=True)
    scale = ((high.clamp(min=0) - low) / 255).clamp(min=2.0**-23)
    zero = (-low / scale).round()
    return ((weight / scale + zero).round().clamp(0, 255) - zero) * scale


def _int4(weight: Tensor) -> Tensor:
    low, high = weight.amin(-1, keepdim=True), weight.amax(-1, keepdim=True)
    scale = torch.where(-low >= high, -low, -high) / 8
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (weight / scale).round().clamp(-8, 7) * scale


def _nf4(weight: Tensor) -> Tensor:
    scale = weight.abs().amax(-1, keepdim=True).clamp(min=2.0**-23)
    levels = torch.from_numpy(NF4).float()
    nearest = torch.bucketize(weight / scale, (levels[1:] + levels[:-1]) / 2)
    return levels[nearest] * scale


ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {"int8": _int8, "int4": _int4, "nf4": _nf4}
"""By precision of the weights: a matrix rounded row by row."""
