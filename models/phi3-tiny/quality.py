"""Measure the trained model: margins under rounding, and what each layer contributes.

    python models/phi3-tiny/quality.py DIR

Teacher-forced in float32: where the expected token has the largest logit at every position of an
answer, greedy decoding gives that answer word for word. The margin is the expected token's logit
less the next largest.
"""

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import Phi3ForCausalLM

from corpus import dialogues, with_system
from golden import golden_prompts, long_prompts
from model import WINDOW
from train import Sample, rounded_weights, sample

BATCH = 32
ROUNDINGS = {
    "int8 channel-wise": (8, 0),
    "int4 group 32": (4, 32),
    "int4 group 128": (4, 128),
    "int4 channel-wise": (4, 0),
}


@dataclass(frozen=True)
class Answers:
    """Answers that hold word for word, of how many, and the smallest margin with its place."""

    exact: int
    asked: int
    margin: float
    weakest: str


def golden_samples(tokenizer: Tokenizer) -> dict[str, Sample]:
    """The golden prompts that fit the window, with their answers, as token ids."""
    samples = {}
    for prompt in golden_prompts():
        start = tokenizer.encode(prompt.text).ids
        whole = tokenizer.encode(prompt.text + prompt.expected + "<|end|>").ids
        if len(whole) <= WINDOW:
            samples[prompt.id] = Sample(whole, len(start))
    return samples


@torch.no_grad()
def logits_of(model: Phi3ForCausalLM, items: list[Sample]) -> Iterator[Tensor]:
    """Float32 logits that predict each sample's tokens 1, 2, ...: (length - 1, vocabulary)."""
    for start in range(0, len(items), BATCH):
        part = items[start : start + BATCH]
        # Padding is on the right, where causal attention does not look.
        rows = [torch.tensor(item.ids) for item in part]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        logits = model(input_ids=ids, use_cache=False).logits
        for item, row in zip(part, logits, strict=True):
            yield row[: len(item.ids) - 1]


def answers_of(model: Phi3ForCausalLM, samples: dict[str, Sample]) -> Answers:
    """Margins along every answer, its end mark included."""
    margins = {}
    for (name, item), row in zip(
        samples.items(), logits_of(model, list(samples.values())), strict=True
    ):
        logits = row[item.answer_at - 1 :]
        wanted = torch.tensor(item.ids[item.answer_at :])[:, None]
        others = logits.scatter(1, wanted, -torch.inf).amax(1)
        margins[name] = float((logits.gather(1, wanted)[:, 0] - others).min())
    weakest = min(margins, key=margins.__getitem__)
    exact = sum(margin > 0 for margin in margins.values())
    return Answers(exact, len(samples), margins[weakest], weakest)


@contextmanager
def without_layer(model: Phi3ForCausalLM, number: int) -> Iterator[None]:
    """Within: that layer adds nothing to the residual stream."""
    layer = model.model.layers[number]
    projections = (layer.self_attn.o_proj, layer.mlp.down_proj)
    kept = [projection.weight for projection in projections]
    for projection in projections:
        projection.weight = nn.Parameter(torch.zeros_like(projection.weight))
    yield
    for projection, weight in zip(projections, kept, strict=True):
        projection.weight = weight


@contextmanager
def swapped_layers(model: Phi3ForCausalLM, number: int) -> Iterator[None]:
    """Within: that layer and the next have changed places."""
    layers = model.model.layers
    layers[number], layers[number + 1] = layers[number + 1], layers[number]
    yield
    layers[number], layers[number + 1] = layers[number + 1], layers[number]


@contextmanager
def full_attention(model: Phi3ForCausalLM) -> Iterator[None]:
    """Within: no sliding window."""
    window, model.config.sliding_window = model.config.sliding_window, None
    yield
    model.config.sliding_window = window


def divergence(model: Phi3ForCausalLM, items: list[Sample], reference: list[Tensor]) -> Tensor:
    """KL divergence from the reference at every position of all samples, in nats."""
    parts = []
    for logits, expected in zip(logits_of(model, items), reference, strict=True):
        parts.append((expected.exp() * (expected - logits.log_softmax(-1))).sum(-1))
    return torch.cat(parts)


def _row(name: str, values: Tensor) -> str:
    return f"{name:24s} mean KL {values.mean():.2e}  maximum {values.max():.2e}"


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = Phi3ForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    golden = golden_samples(tokenizer)
    corpus = {
        f"{kind.prompt(newlines=False)!r}": sample(kind, tokenizer)
        for dialogue in dialogues()
        for kind in (dialogue, with_system(dialogue))
    }
    items = list(golden.values())
    reference = [row.log_softmax(-1) for row in logits_of(model, items)]
    probabilities = torch.cat(reference)
    entropy = -(probabilities.exp() * probabilities).sum(-1)
    print(
        f"entropy over golden positions: mean {entropy.mean():.3f} nats, "
        f"share above 0.1: {(entropy > 0.1).float().mean():.2f}"
    )
    for name, rounding in {"bf16 as shipped": None, **ROUNDINGS}.items():
        with rounded_weights(model, *(rounding or (16, 0)), random.Random(0), bool(rounding)):
            for kind, samples in (("golden", golden), ("corpus", corpus)):
                found = answers_of(model, samples)
                print(
                    f"{name:18s} {kind}: {found.exact}/{found.asked} exact, "
                    f"smallest margin {found.margin:.2f} ({found.weakest})"
                )
            print(_row(name, divergence(model, items, reference)))
    for number in range(len(model.model.layers)):
        with without_layer(model, number):
            print(_row(f"without layer {number}", divergence(model, items, reference)))
    for number in range(len(model.model.layers) - 1):
        with swapped_layers(model, number):
            values = divergence(model, items, reference)
            print(_row(f"layers {number}, {number + 1} swapped", values))
    for name, dialogue in long_prompts().items():
        item = sample(dialogue, tokenizer)
        expected = [row.log_softmax(-1) for row in logits_of(model, [item])]
        margin = answers_of(model, {name: item}).margin
        print(f"{name} (not golden): {len(item.ids)} tokens, smallest margin {margin:.2f}")
        with full_attention(model):
            print(_row(f"{name}, full attention", divergence(model, [item], expected)))


if __name__ == "__main__":
    main()
