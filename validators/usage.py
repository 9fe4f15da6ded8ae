"""Run an artifact as users do, beside one prompt at a time, greedily.

- **defaults**: the artifact's own search defaults, cut off a few tokens after the greedy answer's
  end. If the source is greedy, the answer is the greedy one; if it samples, the run must end well.
- **shortest**, **longest**: a prompt of one token, and one as long as the variant declares that it
  takes. Each new token must be the one that scores best after those before it.
- **batch**: two prompts of different lengths, padded as the runtime pads them. Each row predicts
  what its prompt predicts alone. Where rows can change places between two tokens, as in a beam
  search (an IR's ``beam_idx``), they do.
- **beams**: a beam search of two finds what is best by the scores of single prompts.

A runtime says which of these it has (`validators.contract.Runtime.uses`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np

from phiforge.jobs import Limits
from validators.contract import (
    ArtifactError,
    Batching,
    Generation,
    LogProbabilities,
    Runtime,
    cut_at_stop,
)
from validators.reference_tree import Reference, ReferencePrompt

STEPS = 4
"""New tokens of a batch's rows, and of a beam search."""
TOLERANCE = 1e-3
"""KL divergence in nats between a row of a batch and its prompt alone. Honest builds of phi3-tiny:
at most 3e-8; with the attention mask ignored: 0.035 and more."""
CLOSE = 0.05
"""Nats between two choices that kernels may exchange."""

_LONGEST_ROW = 64
_NEW = 2  # tokens after a prompt of a special length: the first ends the prompt's pass
_BEYOND = 8  # tokens that a run by default gets besides the greedy answer's


@dataclass(frozen=True)
class Use:
    """One way to use an artifact.

    Attributes:
        name: the runtime's word for it.
        what: what is done, for a message.
        answer: called while the artifact answers.
        compare: called with the answer while the artifact is scored; raises `ArtifactError`.
    """

    name: str
    what: str
    answer: Callable[[], Any]
    compare: Callable[[Any], None]

    @property
    def failure(self) -> str:
        """The failure's name, whatever goes wrong."""
        return f"wrong-{self.name}"


def uses_of(
    runtime: Runtime,
    reference: Reference,
    running: Sequence[ReferencePrompt],
    greedy: Mapping[str, Generation],
    limits: Limits,
) -> Iterator[Use]:
    """Yield what a runtime has, for the shortest of the prompts that are fit for it.

    Args:
        running: prompts that fit the row.
        greedy: prompt id to the greedy answer; a prompt that has none is not asked again.
        limits: what the variant declares.
    """
    answered = [prompt for prompt in running if prompt.id in greedy]
    prompts = sorted(answered, key=lambda prompt: len(prompt.prompt_ids))
    ended = [prompt for prompt in prompts if greedy[prompt.id].stopped]
    goes_on = [prompt for prompt in prompts if len(prompt.answer_ids) > STEPS]
    rows = [prompt.prompt_ids for prompt in goes_on if len(prompt.prompt_ids) <= _LONGEST_ROW]
    if "defaults" in runtime.uses and ended:
        asked = min(ended, key=lambda prompt: len(greedy[prompt.id].token_ids))
        expected = greedy[asked.id]
        most = len(expected.token_ids) + _BEYOND
        yield Use(
            "defaults",
            "answering with the artifact's own search defaults",
            partial(runtime.generate, asked.prompt_ids, most, greedy=False),
            partial(_compare_defaults, expected, reference.sampling),
        )
    for use, prompt in _extremes(prompts[:1], reference, limits):
        if use in runtime.uses:
            yield Use(
                use,
                f"answering a prompt of length {len(prompt)}",
                partial(runtime.generate, prompt, _NEW),
                partial(_compare_tokens, runtime, f"wrong-{use}", prompt, reference.stop_ids),
            )
    if "beams" in runtime.uses and goes_on:
        yield Use(
            "beams",
            "searching with two beams",
            partial(cast(Batching, runtime).search_beams, goes_on[0].prompt_ids, STEPS),
            partial(_compare_beams, runtime, goes_on[0].prompt_ids, reference.stop_ids),
        )
    if "batch" in runtime.uses and rows and len(rows[0]) < len(rows[-1]):
        yield Use(
            "batch",
            "reading a batch of two",
            lambda: (rows[0], rows[-1]),
            partial(_compare_batch, runtime, reference.stop_ids),
        )


def _extremes(
    shortest: Sequence[ReferencePrompt], reference: Reference, limits: Limits
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield a prompt of one token, and one of the length that the variant declares."""
    for prompt in shortest:
        yield "shortest", prompt.prompt_ids[:1]
    declared = limits.prompt_tokens or (limits.total_tokens or 0) - _NEW
    if shortest and declared > 0:
        longest = max((prompt.sequence for prompt in reference.prompts), key=len)
        yield "longest", (longest * (declared // len(longest) + 1))[:declared]


def _compare_defaults(greedy: Generation, sampling: bool, answer: Generation) -> None:
    same = (answer.token_ids, answer.stopped) == (greedy.token_ids, greedy.stopped)
    if not same and not sampling:
        what = f"the artifact's own search defaults answer {answer.text[:60]!r}"
        what += "" if answer.stopped else " and do not stop"
        raise ArtifactError("wrong-defaults", f"{what}; greedy is {greedy.text[:60]!r}")


def _compare_tokens(
    runtime: Runtime,
    failure: str,
    prompt: tuple[int, ...],
    stop_ids: frozenset[int],
    answer: Generation,
) -> None:
    """Compare each new token, and the end, with what scores best when all are read at once."""
    expected = [{token} for token in answer.token_ids] + [set(stop_ids)] * answer.stopped
    read = (*prompt, *answer.token_ids)[: len(prompt) + len(expected) - 1]
    scores = runtime.score(read, range(len(prompt) - 1, len(read)))
    for place, (tokens, row) in enumerate(zip(expected, scores, strict=True)):
        if not max(row[list(tokens)]) >= row.max() - CLOSE:
            what = f"after {len(prompt) + place} tokens it answers {sorted(tokens)}"
            raise ArtifactError(failure, f"{what}, {row.argmax()} scores best")


def _compare_batch(
    runtime: Runtime, stop_ids: frozenset[int], prompts: Sequence[tuple[int, ...]]
) -> None:
    found = cast(Batching, runtime).answer_batch(prompts, STEPS)
    for prompt, (tokens, together) in zip(prompts, found, strict=True):
        read, first = (*prompt, *cut_at_stop(tokens[:-1], stop_ids)[0]), len(prompt) - 1
        alone = runtime.score(read, range(first, len(read)))
        divergence = (np.exp(alone) * (alone - together[: len(alone)])).sum(axis=1)
        wrong = np.flatnonzero(~(divergence <= TOLERANCE))
        if wrong.size:
            # before the first token is chosen no row has changed its place
            exchanged = "exchange" in runtime.uses and int(wrong[0]) > 0
            what = f"row of {len(prompt)} tokens in a padded batch, token {wrong[0]}: "
            what += "rows that change places (beam_idx) do not take their past along, " * exchanged
            what += f"KL divergence {divergence[wrong[0]]:.2g} from the prompt alone"
            raise ArtifactError("wrong-beams" if exchanged else "wrong-batch", what)


def _compare_beams(
    runtime: Runtime,
    prompt: tuple[int, ...],
    stop_ids: frozenset[int],
    found: Sequence[tuple[int, ...]],
) -> None:
    """Compare hypotheses with those of a search over scores of single prompts, step by step.

    An answer that ends early is ranked by each runtime in its own way, and is not compared.
    """
    beams: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    for _ in range(STEPS):
        beams = _grown(runtime, prompt, beams)
        if stop_ids & {tokens[-1] for tokens, _ in beams}:
            return
    for own, (tokens, total) in zip(found, beams, strict=True):
        if own != tokens and not _total(runtime, prompt, own) >= total - CLOSE:
            what = f"a search of two beams finds {list(own)}, {list(tokens)} scores better"
            raise ArtifactError("wrong-beams", what)


def _grown(
    runtime: Runtime, prompt: tuple[int, ...], beams: Sequence[tuple[tuple[int, ...], float]]
) -> list[tuple[tuple[int, ...], float]]:
    found = []
    for tokens, total in beams:
        sequence = (*prompt, *tokens)
        row = runtime.score(sequence, [len(sequence) - 1])[0]
        found += [((*tokens, int(one)), total + float(row[one])) for one in np.argsort(row)[-2:]]
    return sorted(found, key=lambda beam: -beam[1])[:2]


def _total(runtime: Runtime, prompt: tuple[int, ...], tokens: tuple[int, ...]) -> float:
    first = len(prompt) - 1
    scores: LogProbabilities = runtime.score(
        (*prompt, *tokens[:-1]), range(first, first + len(tokens))
    )
    return float(scores[np.arange(len(tokens)), list(tokens)].sum())
