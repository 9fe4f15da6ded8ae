"""Describe golden prompts: what every artifact of a model is asked, and what a right answer is."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from phiforge.artifact.record import canonical


@dataclass(frozen=True)
class GoldenPrompt:
    """One prompt.

    Attributes:
        text: the raw prompt with its special tokens, repetitions written out.
        max_new_tokens: the answer's greatest length.
        expected: the exact answer, where it is known; None: the reference's answer.
        must_contain: a fact that any right answer contains.
        must_stop: any right answer ends at a stop token within ``max_new_tokens``.
    """

    id: str
    text: str
    max_new_tokens: int
    expected: str | None = None
    must_contain: str | None = None
    must_stop: bool = False


@dataclass(frozen=True)
class GoldenSet:
    """The prompts of one file, in order, and `golden_digest` of them."""

    prompts: tuple[GoldenPrompt, ...]
    digest: str


def golden_digest(prompts: Sequence[GoldenPrompt]) -> str:
    """Return the SHA-256 of the prompts' canonical JSON, in hex.

    Comments, YAML style and whether a filler is written out or as a ``repeat`` do not count.
    """
    text = canonical({"prompts": [asdict(prompt) for prompt in prompts]})
    return hashlib.sha256(text.encode()).hexdigest()
