"""Select the positions of the golden prompts that are scored.

Position ``p`` of a sequence is where the tokens ``0..p`` have been read and token ``p + 1`` is
predicted; the last token of a sequence is therefore no position.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WORK = 2e11
"""Products of a weight with a token, of what is computed beside a reference or an artifact: all
prompts of a small model, 52 tokens of Phi-3-mini."""


@dataclass(frozen=True)
class Span:
    """A sequence's length in tokens, and how many of them are the prompt."""

    prompt_tokens: int
    total_tokens: int


def select_positions(spans: Sequence[Span], limit: int) -> list[list[int]]:
    """Select at most ``limit`` positions over all sequences, ascending in each.

    Every position that predicts an answer's token is taken if these fit, and the rest of the
    budget is spread evenly over the prompts' positions; if they do not fit, the budget is spread
    evenly over all positions.

    >>> select_positions([Span(2, 4), Span(5, 5)], 4)
    [[0, 1, 2], [1]]
    """
    everything = [(s, p) for s, span in enumerate(spans) for p in range(span.total_tokens - 1)]
    answers = [(s, p) for s, p in everything if p >= spans[s].prompt_tokens - 1]
    if len(everything) <= limit:
        chosen = everything
    elif len(answers) <= limit:
        prompts = [(s, p) for s, p in everything if p < spans[s].prompt_tokens - 1]
        chosen = sorted(answers + _evenly(prompts, limit - len(answers)))
    else:
        chosen = _evenly(everything, limit)
    found: list[list[int]] = [[] for _ in spans]
    for sequence, position in chosen:
        found[sequence].append(position)
    return found


def affordable(
    scored: Sequence[tuple[Sequence[int], Sequence[int]]], weights: int
) -> Iterator[tuple[int, Sequence[int], Sequence[int]]]:
    """Yield of the shortest sequences that `WORK` allows the index, the tokens, the positions.

    What a token predicts hangs on nothing that follows it, so that of the last of them a beginning
    does where the whole does not fit.

    Args:
        scored: sequences, and the positions of each that are scored.
        weights: how many the model has.
    """
    tokens = WORK / weights
    for index in sorted(range(len(scored)), key=lambda one: len(scored[one][0])):
        sequence, positions = scored[index]
        fitting = [position for position in positions if position < tokens]
        if fitting:
            yield index, sequence[: fitting[-1] + 1], fitting
        tokens -= len(sequence)
        if tokens <= 0:
            return


def _evenly(values: list[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    return [values[index * len(values) // count] for index in range(count)] if count else []
