"""Run a Phi-3 layer by layer, several ways side by side, with one layer in memory at a time.

The layers are transformers' own. The prompts pass through one layer after another, so that each
weight is made once, whatever has to be done with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import AutoConfig
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.phi3.modeling_phi3 import (
    Phi3DecoderLayer,
    Phi3RMSNorm,
    Phi3RotaryEmbedding,
)

WeightOf: TypeAlias = Callable[[str], Tensor]
"""The source's name of a tensor to its values in float32."""

Asked: TypeAlias = tuple[Sequence[int], Sequence[int]]
"""Token ids, and the positions whose logits are wanted."""


@dataclass(frozen=True)
class Way:
    """How to compute.

    Attributes:
        rounding: of each matrix but the embedding; None: none.
        dtype: of the arithmetic.
    """

    rounding: Callable[[Tensor], Tensor] | None = None
    dtype: torch.dtype = torch.float32

    def weight(self, name: str, exact: Tensor) -> Tensor:
        """Return what this way computes with in the place of a tensor."""
        if self.rounding is not None and exact.ndim == 2 and "embed_tokens" not in name:
            exact = self.rounding(exact)
        return exact.to(self.dtype)


def layerwise(
    source: Path, weight_of: WeightOf, asked: Sequence[Asked], ways: Sequence[Way]
) -> list[list[Tensor]]:
    """Return the logits in float32, (positions, vocabulary), by way and by what is asked.

    Args:
        source: its config.json is read.
    """
    config = read_config(source)
    embedding = weight_of("model.embed_tokens.weight")
    runs = [_Run(config, way, embedding, [ids for ids, _ in asked]) for way in ways]
    del embedding
    for number in range(config.num_hidden_layers):
        exact = cache(weight_of)  # of one layer, for all ways
        for run in runs:
            run.take(number, exact)
    exact = cache(weight_of)
    positions = [list(wanted) for _, wanted in asked]
    return [run.logits(exact, positions) for run in runs]


def read_config(source: Path) -> Any:
    """Read a source's configuration, for the attention that masks as it is given."""
    config: Any = AutoConfig.from_pretrained(source, local_files_only=True)
    config._attn_implementation = "sdpa"
    return config


def decoder_layer(config: Any, number: int, weight_of: WeightOf) -> Phi3DecoderLayer:
    """Build one layer."""
    with torch.device("meta"):
        layer = Phi3DecoderLayer(config, number)
    prefix = f"model.layers.{number}."
    weights = {name: weight_of(prefix + name) for name, _ in layer.named_parameters()}
    layer.load_state_dict(weights, assign=True)
    return layer.eval().requires_grad_(False)


def last_norm(config: Any, weight_of: WeightOf) -> Phi3RMSNorm:
    """Build the norm between the last layer and the head."""
    with torch.device("meta"):
        norm = Phi3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
    norm.load_state_dict({"weight": weight_of("model.norm.weight")}, assign=True)
    return norm.requires_grad_(False)


class _Run:
    """The states of all prompts on one way."""

    def __init__(
        self, config: Any, way: Way, embedding: Tensor, prompts: Sequence[Sequence[int]]
    ) -> None:
        self.config, self.way = config, way
        rotary = Phi3RotaryEmbedding(config)
        windowed = config.sliding_window is not None
        mask_of = create_sliding_window_causal_mask if windowed else create_causal_mask
        self.states = [embedding[torch.tensor(list(ids))][None].to(way.dtype) for ids in prompts]
        self.given = []
        for state in self.states:
            places = torch.arange(state.shape[1])[None]
            mask = mask_of(
                config=config,
                inputs_embeds=state,
                attention_mask=None,
                past_key_values=None,
                position_ids=places,
            )
            self.given.append(
                {
                    "attention_mask": mask,
                    "position_ids": places,
                    "position_embeddings": rotary(state, position_ids=places),
                }
            )

    def take(self, number: int, exact: WeightOf) -> None:
        """Pass one layer."""
        layer = decoder_layer(self.config, number, self._weight_of(exact))
        self.states = [
            layer(state, **given) for state, given in zip(self.states, self.given, strict=True)
        ]

    def logits(self, exact: WeightOf, positions: Sequence[list[int]]) -> list[Tensor]:
        weight_of = self._weight_of(exact)
        norm, head = last_norm(self.config, weight_of), weight_of("lm_head.weight")
        return [
            (norm(state[0, wanted]) @ head.T).float()
            for state, wanted in zip(self.states, positions, strict=True)
        ]

    def _weight_of(self, exact: WeightOf) -> WeightOf:
        return lambda name: self.way.weight(name, exact(name))
