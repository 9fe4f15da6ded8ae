"""Compute the predictions of an artifact's own weights: a process of its own, for its memory.

    python -m validators.execution_worker < JOB.json

The Phi-3 in float32 is given the weights that the payload stores, widened or dequantized. What is
left between this and the artifact's answers is arithmetic.
"""

import json
import sys
from pathlib import Path

import torch

from phiforge.child import die_with_parent
from phiforge.errors import run_command
from validators.execution import write_predictions
from validators.layerwise import Way, layerwise
from validators.lint.architecture import read_architecture
from validators.lint.held_weights import Weights
from validators.lint.payload import found_weights
from validators.metrics import TopKDistribution, log_probabilities, truncate_top_k
from validators.positions import affordable
from validators.reference_tree import load_reference

TOOLCHAIN = ("torch", "transformers", "numpy")


def main() -> None:
    die_with_parent()
    job = json.load(sys.stdin)
    source, reference = Path(job["source"]), load_reference(Path(job["reference"]))
    architecture = read_architecture(source)
    assert architecture is not None  # validators.execution asks for no other
    asked = [prompt for prompt in reference.prompts if prompt.id not in job["left_out"]]
    found: dict[str, TopKDistribution] = {}
    with (
        torch.inference_mode(),
        found_weights(Path(job["payload"]), job["variant"], architecture) as stored,
    ):
        weights = Weights(stored)
        scored = [(one.sequence, reference.scored[one.id].positions) for one in asked]
        chosen = list(affordable(scored, weights.count))
        questions = [(ids, positions) for _, ids, positions in chosen]
        [answers] = layerwise(source, weights.of, questions, [Way()])
    for (index, _, positions), logits in zip(chosen, answers, strict=True):
        one = asked[index]
        known = reference.scored[one.id].distribution.top_ids[: len(positions)]
        following = [one.sequence[position + 1] for position in positions]
        found[one.id] = truncate_top_k(log_probabilities(logits.numpy()), known, following)
    write_predictions(Path(job["into"]), found)


if __name__ == "__main__":
    run_command(main)
