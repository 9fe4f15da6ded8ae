"""What runtimes share whose model answers through transformers' own `generate`."""

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import TextStreamer

from validators.contract import Generation, LogProbabilities, cut_at_stop
from validators.device_counters import DeviceCounters
from validators.metrics import log_probabilities


class TransformersRuntime:
    """A model and its tokenizer; the runtime adds how to score and what proves the device."""

    decodes = True
    uses: Sequence[str] = ("defaults", "shortest", "longest")

    def __init__(
        self, model: Any, tokenizer: Any, counters: DeviceCounters, **options: Any
    ) -> None:
        """Take a loaded model; ``options`` are of ``model.generate``, besides the greedy ones."""
        self.model, self.counters = model, counters
        self._tokenizer, self._options = tokenizer, options

    def encode(self, text: str) -> list[int]:
        """See `validators.contract.Runtime.encode`."""
        return [int(token) for token in self._tokenizer(text)["input_ids"]]

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """See `validators.contract.Runtime.decode`."""
        return [str(self._tokenizer.decode(ids, skip_special_tokens=True)) for ids in batch]

    def stream(self, token_ids: Sequence[int]) -> str:
        """See `validators.contract.Runtime.stream`."""
        streamer = _Joined(self._tokenizer, skip_special_tokens=True)
        for token in token_ids:
            streamer.put(torch.tensor([token]))
        streamer.end()
        return "".join(streamer.parts)

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *, greedy: bool = True
    ) -> Generation:
        """See `validators.contract.Runtime.generate`."""
        inputs = torch.tensor([list(token_ids)])
        first_token = _FirstToken()
        started = time.perf_counter()
        with self.counters.watch("it answered"):
            output = self.model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=max_new_tokens,
                streamer=first_token,
                **({"do_sample": False} if greedy else {}),
                **self._options,
            )
        total_s = time.perf_counter() - started
        stop = self.model.generation_config.eos_token_id
        stop_ids = frozenset([stop] if isinstance(stop, int) else stop or [])
        tokens, stopped = cut_at_stop(output[0, len(token_ids) :].tolist(), stop_ids)
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return Generation(tokens, stopped, text, first_token.seconds, total_s)

    def search_beams(self, token_ids: Sequence[int], count: int) -> list[tuple[int, ...]]:
        """See `validators.contract.Batching.search_beams`."""
        found = self._read([token_ids], count, num_beams=2, num_return_sequences=2).sequences
        return [tuple(row[len(token_ids) :].tolist()) for row in found]

    def answer_batch(
        self, prompts: Sequence[Sequence[int]], count: int
    ) -> list[tuple[tuple[int, ...], LogProbabilities]]:
        """See `validators.contract.Batching.answer_batch`."""
        read = self._read(prompts, count, output_logits=True)
        scores = log_probabilities(torch.stack(read.logits, dim=1).float().numpy())
        tokens = read.sequences[:, -scores.shape[1] :].tolist()
        return [(tuple(ids), row) for ids, row in zip(tokens, scores, strict=True)]

    def _read(self, prompts: Sequence[Sequence[int]], count: int, **options: Any) -> Any:
        """Generate ``count`` tokens after prompts that are padded on the left."""
        longest = max(map(len, prompts))
        ids = torch.tensor([[0] * (longest - len(one)) + list(one) for one in prompts])
        mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts])
        return self.model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=count,
            do_sample=False,
            return_dict_in_generate=True,
            **options,
            **self._options,
        )


class _Joined(TextStreamer):  # type: ignore[misc]
    """Keeps the text that it would print."""

    def __init__(self, tokenizer: Any, **options: Any) -> None:
        super().__init__(tokenizer, **options)
        self.parts: list[str] = []

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Keep ``text``."""
        self.parts.append(text)


class _FirstToken:
    """A streamer that times the first new token; `generate` puts the prompt before it."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._puts = 0
        self.seconds: float | None = None

    def put(self, value: Any) -> None:
        self._puts += 1
        if self._puts == 2:
            self.seconds = time.perf_counter() - self._started

    def end(self) -> None:
        """Do nothing: there is nothing to flush."""
