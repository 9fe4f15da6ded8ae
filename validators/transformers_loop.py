"""Greedy answers of a runtime whose loop is transformers' own `generate`."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from validators.contract import Generation, cut_at_stop


def answer(
    model: Any,
    tokenizer: Any,
    token_ids: Sequence[int],
    max_new_tokens: int,
    watch: AbstractContextManager[None],
    **options: Any,
) -> Generation:
    """What ``model`` answers, ended by its own stop tokens.

    Args:
        watch: entered while it answers, to see what does the work.
        options: of ``model.generate``, besides those of every greedy answer.
    """
    inputs = torch.tensor([list(token_ids)])
    first_token = _FirstToken()
    started = time.perf_counter()
    with watch:
        output = model.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            streamer=first_token,
            **options,
        )
    total_s = time.perf_counter() - started
    stop = model.generation_config.eos_token_id
    stop_ids = frozenset([stop] if isinstance(stop, int) else stop or [])
    tokens, stopped = cut_at_stop(output[0, len(token_ids) :].tolist(), stop_ids)
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    return Generation(tokens, stopped, text, first_token.seconds, total_s)


class _FirstToken:
    """A streamer: notes when the first new token came; `generate` puts the prompt before it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._puts = 0
        self.seconds: float | None = None

    def put(self, value: Any) -> None:
        self._puts += 1
        if self._puts == 2:
            self.seconds = time.perf_counter() - self._started

    def end(self) -> None:
        """Nothing is left to be shown."""
