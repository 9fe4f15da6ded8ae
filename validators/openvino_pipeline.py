"""What the OpenVINO runtimes share: the IR's inputs, and OpenVINO GenAI's pipeline fed with ids."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai

from validators.contract import Generation, cut_at_stop

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers")

IR = "openvino_model.xml"


def inputs_of(model: Any, token_ids: Sequence[int], past: int = 0) -> dict[str, Any]:
    """Inputs of a stateful IR for ``token_ids`` that follow ``past`` tokens of the same sequence.

    Shapes: input_ids and position_ids (1, n), attention_mask (1, past + n), beam_idx (1,); only
    those that the compiled ``model`` has.
    """
    count = len(token_ids)
    wanted = {
        "input_ids": np.array([token_ids], dtype=np.int64),
        "attention_mask": np.ones((1, past + count), dtype=np.int64),
        "position_ids": np.arange(past, past + count, dtype=np.int64)[None],
        "beam_idx": np.zeros(1, dtype=np.int32),
    }
    names = {port.any_name for port in model.inputs}
    return {name: value for name, value in wanted.items() if name in names}


class GenaiPipeline:
    """``openvino_genai.LLMPipeline`` of a payload, greedy, with the payload's own stop tokens."""

    def __init__(self, artifact: Path, device: str, properties: Mapping[str, Any]) -> None:
        self._pipeline = openvino_genai.LLMPipeline(artifact, device, **properties)
        self._config = self._pipeline.get_generation_config()
        self._tokenizer = self._pipeline.get_tokenizer()

    def generate(self, token_ids: Sequence[int], max_new_tokens: int) -> Generation:
        """See `validators.contract.Runtime.generate`."""
        ids = np.array([token_ids], dtype=np.int64)
        prompt = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
        )
        self._config.do_sample = False
        self._config.max_new_tokens = max_new_tokens
        started = time.perf_counter()
        result = self._pipeline.generate(prompt, self._config)
        total_s = time.perf_counter() - started
        stop_ids = frozenset({*self._config.stop_token_ids, self._config.eos_token_id})
        tokens, stopped = cut_at_stop([int(token) for token in result.tokens[0]], stop_ids)
        return Generation(
            token_ids=tokens,
            stopped=stopped,
            text=str(self._tokenizer.decode(list(tokens))) if tokens else "",
            first_token_s=result.perf_metrics.get_ttft().mean / 1000,
            total_s=total_s,
        )


def own_encoding(artifact: Path, text: str) -> list[int]:
    """Token ids by the payload's OpenVINO tokenizer."""
    tokenizer = openvino_genai.Tokenizer(artifact)
    return [int(token) for token in tokenizer.encode(text).input_ids.data[0]]


def device_family(names: Sequence[str]) -> str:
    """``GPU`` of ``["GPU.0"]``; ``unknown`` of none, or of more than one kind.

    >>> device_family(["GPU.0", "GPU.1"]), device_family(["NPU", "CPU"])
    ('GPU', 'unknown')
    """
    families = {name.split(".")[0] for name in names}
    return families.pop() if len(families) == 1 else "unknown"
