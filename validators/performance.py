"""Measure how fast an artifact answers, as the guide's charts do; reported, never judged.

One prompt at a time, greedily. The first answer warms up and does not count.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from validators.contract import Generation
from validators.cpu_info import threads

LONGEST_ANSWER = 64
RUNS = 8
"""Answers after the first, where they are made to be measured only."""

Answer = tuple[int, Generation]
"""Length of a prompt in tokens, and the answer."""


def performance(answers: Sequence[Answer], numerics: str) -> dict[str, Any] | None:
    """Return the receipt's ``performance``; None: fewer than two answers.

    Args:
        answers: in the order in which they were made; the first warmed up.
        numerics: ``default`` or ``pinned``.
    """
    counted = answers[1:]
    if not counted:
        return None
    first = [answer.first_token_s for _, answer in counted if answer.first_token_s is not None]
    rates = [rate for _, answer in counted if (rate := _tokens_per_s(answer)) is not None]
    return {
        "numerics": numerics,
        "runs": len(counted),
        "threads": threads(),
        "prompt_tokens": _percentiles([length for length, _ in counted]),
        "new_tokens": _percentiles([_new_tokens(answer) for _, answer in counted]),
        "first_token_ms": _percentiles([1000 * seconds for seconds in first]) if first else None,
        "tokens_per_s": _percentiles(rates) if rates else None,
    }


def _new_tokens(answer: Generation) -> int:
    return len(answer.token_ids) + int(answer.stopped)


def _tokens_per_s(answer: Generation) -> float | None:
    """Return tokens per second after the first, which is the prompt's work; None: unknown."""
    if answer.first_token_s is None or _new_tokens(answer) < 2:
        return None
    rest_s = answer.total_s - answer.first_token_s
    return (_new_tokens(answer) - 1) / rest_s if rest_s > 0 else None


def _percentiles(numbers: Sequence[float]) -> dict[str, float]:
    """Return minimum, median, 90th percentile and maximum; each is a number that occurred.

    >>> _percentiles([5, 1, 3])
    {'min': 1, 'p50': 3, 'p90': 5, 'max': 5}
    """
    points = np.percentile(numbers, [0, 50, 90, 100], method="inverted_cdf").tolist()
    return dict(zip(("min", "p50", "p90", "max"), (round(x, 3) for x in points), strict=True))
