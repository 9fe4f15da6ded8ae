"""Compute the predictions of an artifact's own weights: a process of its own, for its memory.

    python -m validators.execution_worker JOB.json

transformers' Phi-3 layers, in float32, are given the weights that the payload stores, widened or
dequantized; the prompts pass through one layer after another, so that one layer's weights are in
memory at a time. What is left between this and the artifact's answers is arithmetic.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask
from transformers.models.phi3.modeling_phi3 import (
    Phi3DecoderLayer,
    Phi3RMSNorm,
    Phi3RotaryEmbedding,
)

from phiforge.child import die_with_parent
from phiforge.errors import run_command
from validators.execution import RESULT, write_predictions
from validators.lint.architecture import read_architecture
from validators.lint.payload import found_weights
from validators.lint.weights import Stored, dequantized
from validators.metrics import TopKDistribution, log_probabilities, truncate_top_k
from validators.reference_tree import load_reference

TOOLCHAIN = ("torch", "transformers", "numpy")


class Weights:
    """The tensors of a payload, by the source's names, each made when it is asked for."""

    def __init__(self, stored: Sequence[Stored]) -> None:
        self._parts: dict[str, list[Stored]] = {}
        for one in stored:
            self._parts.setdefault(one.part.tensor, []).append(one)

    def of(self, name: str) -> Tensor:
        """Make a tensor, (rows, columns); a norm's is a vector. A tied LM head is the embedding."""
        parts = self._parts.get(name) or self._parts["model.embed_tokens.weight"]
        rows = max(one.part.first + one.part.rows for one in parts)
        values: npt.NDArray[np.float32] = np.empty((rows, parts[0].columns), dtype=np.float32)
        for one in parts:
            for first, chunk in dequantized(one):
                start = one.part.first + first
                values[start : start + len(chunk)] = chunk
        return torch.from_numpy(values[0] if name.endswith("norm.weight") else values)

    def fill(self, module: nn.Module, prefix: str) -> nn.Module:
        """Give a module, made without memory, its weights."""
        names = [name for name, _ in module.named_parameters()]
        tensors = {name: self.of(f"{prefix}.{name}") for name in names}
        module.load_state_dict(tensors, assign=True)
        return module.eval()


def predictions(
    config: Any, weights: Weights, prompts: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> list[Tensor]:
    """Return the logits of each prompt, given as token ids and positions, at its positions."""
    embedding = weights.of("model.embed_tokens.weight")
    rotary = Phi3RotaryEmbedding(config)
    mask_of = (
        create_causal_mask if config.sliding_window is None else create_sliding_window_causal_mask
    )
    states, given = [], []
    for token_ids, _ in prompts:
        state = embedding[torch.tensor(list(token_ids))][None]
        places = torch.arange(len(token_ids))[None]
        mask = mask_of(
            config=config,
            inputs_embeds=state,
            attention_mask=None,
            past_key_values=None,
            position_ids=places,
        )
        states.append(state)
        given.append(
            {
                "attention_mask": mask,
                "position_ids": places,
                "position_embeddings": rotary(state, position_ids=places),
            }
        )
    del embedding
    for number in range(config.num_hidden_layers):
        with torch.device("meta"):
            layer = Phi3DecoderLayer(config, number)
        weights.fill(layer, f"model.layers.{number}")
        states = [layer(state, **one) for state, one in zip(states, given, strict=True)]
    with torch.device("meta"):
        norm = Phi3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
    weights.fill(norm, "model.norm")
    head = weights.of("lm_head.weight")
    return [
        norm(state[0, torch.tensor(list(positions))]) @ head.T
        for state, (_, positions) in zip(states, prompts, strict=True)
    ]


def main() -> None:
    die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    source, reference = Path(job["source"]), load_reference(Path(job["reference"]))
    architecture = read_architecture(source)
    assert architecture is not None  # validators.execution asks for no other
    config = AutoConfig.from_pretrained(source, local_files_only=True)
    config._attn_implementation = "sdpa"
    asked = [prompt for prompt in reference.prompts if prompt.id not in job["skipped"]]
    found: dict[str, TopKDistribution] = {}
    with (
        torch.inference_mode(),
        found_weights(Path(job["payload"]), job["variant"], architecture) as stored,
    ):
        prompts = [(one.sequence, reference.scored[one.id].positions) for one in asked]
        for one, logits in zip(asked, predictions(config, Weights(stored), prompts), strict=True):
            scored = reference.scored[one.id]
            following = [one.sequence[position + 1] for position in scored.positions]
            scores = log_probabilities(logits.numpy())
            found[one.id] = truncate_top_k(scores, scored.distribution.top_ids, following)
    write_predictions(Path(job["into"]) / RESULT, found)


if __name__ == "__main__":
    run_command(main)
