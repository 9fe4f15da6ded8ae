"""Compute the predictions of an artifact's own weights: a process of its own, for its memory.

    python -m validators.execution_worker JOB.json

The Phi-3 in float32 is given the weights that the payload stores, widened or dequantized. What is
left between this and the artifact's answers is arithmetic.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from phiforge.child import die_with_parent
from phiforge.errors import run_command
from validators.execution import RESULT, write_predictions
from validators.layerwise import Way, layerwise
from validators.lint.architecture import read_architecture
from validators.lint.held_weights import Weights
from validators.lint.payload import found_weights
from validators.metrics import TopKDistribution, log_probabilities, truncate_top_k
from validators.reference_tree import Reference, ReferencePrompt, load_reference

TOOLCHAIN = ("torch", "transformers", "numpy")

WORK = 5e11
"""Weights times tokens: all prompts of a small model, 130 tokens of Phi-3-mini."""


def affordable(
    prompts: Sequence[ReferencePrompt], reference: Reference, tokens: float
) -> Iterator[tuple[ReferencePrompt, int]]:
    """Yield the shortest prompts that fit into ``tokens``, and how many positions of each.

    What a token predicts hangs on nothing that follows it, so that of the shortest a beginning does
    where the whole does not fit.
    """
    for prompt in sorted(prompts, key=lambda one: len(one.sequence)):
        positions = reference.scored[prompt.id].positions
        fitting = sum(position < tokens for position in positions)
        if fitting:
            yield prompt, fitting
        tokens -= len(prompt.sequence)
        if tokens <= 0:
            return


def main() -> None:
    die_with_parent()
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    source, reference = Path(job["source"]), load_reference(Path(job["reference"]))
    architecture = read_architecture(source)
    assert architecture is not None  # validators.execution asks for no other
    asked = [prompt for prompt in reference.prompts if prompt.id not in job["skipped"]]
    found: dict[str, TopKDistribution] = {}
    with (
        torch.inference_mode(),
        found_weights(Path(job["payload"]), job["variant"], architecture) as stored,
    ):
        weights = Weights(stored)
        chosen = list(affordable(asked, reference, WORK / weights.count))
        wanted = [reference.scored[one.id].positions[:count] for one, count in chosen]
        questions = [
            (one.sequence[: positions[-1] + 1], positions)
            for (one, _), positions in zip(chosen, wanted, strict=True)
        ]
        [answers] = layerwise(source, weights.of, questions, [Way()])
    for (one, count), positions, logits in zip(chosen, wanted, answers, strict=True):
        known = reference.scored[one.id].distribution.top_ids[:count]
        following = [one.sequence[position + 1] for position in positions]
        found[one.id] = truncate_top_k(log_probabilities(logits.numpy()), known, following)
    write_predictions(Path(job["into"]) / RESULT, found)


if __name__ == "__main__":
    run_command(main)
