"""An ONNX Runtime GenAI build: one session that generates and gives logits of all positions.

Settings: ``provider``, one of ``cpu`` (the build's execution providers are cleared, so that its
own graph runs on the CPU), ``dml`` or ``cuda`` (the build as it is).
"""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime_genai as og

from validators.contract import (
    CheckError,
    ExecutionEvidence,
    Generation,
    Limits,
    LogProbabilities,
    Runtime,
    cut_at_stop,
    only_known,
)
from validators.metrics import log_probabilities

TOOLCHAIN = ("onnx", "onnxruntime", "onnxruntime-genai", "numpy")

PROVIDERS = ("cpu", "dml", "cuda")


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open the build in ``artifact`` with ``settings["provider"]``.

    Raises:
        CheckError: an unknown setting or provider.
    """
    only_known(settings, ["provider"], "onnx_genai")
    provider = str(settings.get("provider", "cpu"))
    if provider not in PROVIDERS:
        raise CheckError(
            "setting 'provider' of runtime onnx_genai has an unknown value",
            where="config/devices.yaml",
            expected=f"one of {', '.join(PROVIDERS)}",
            found=provider,
        )
    return _OnnxGenaiRuntime(artifact, provider)


def attends_to_all(graph_file: Path) -> bool:
    """Whether a graph's attention has no sliding window (``local_window_size``).

    The model builder leaves the window out of Phi-3's DirectML builds, so that they leave the
    reference on sequences longer than the source's window.
    """
    graph = onnx.load(str(graph_file), load_external_data=False).graph
    windows = [
        next((field.i for field in node.attribute if field.name == "local_window_size"), -1)
        for node in graph.node
        if node.op_type.endswith("Attention")
    ]
    return not windows or min(windows) < 0


class _OnnxGenaiRuntime:
    def __init__(self, artifact: Path, provider: str) -> None:
        self._provider = provider
        built = json.loads((artifact / "genai_config.json").read_text(encoding="utf-8"))["model"]
        decoder = built["decoder"]
        self._built_for = [
            name
            for entry in decoder["session_options"].get("provider_options", [])
            for name in entry
        ]
        self._full_attention = attends_to_all(artifact / decoder["filename"])
        self._context_length = int(built["context_length"])
        config = og.Config(str(artifact))
        if provider == "cpu":
            config.clear_providers()
        self._model = og.Model(config)
        self._tokenizer = og.Tokenizer(self._model)
        self._stop_ids = frozenset(int(token) for token in self._tokenizer.eos_token_ids)

    def limits(self) -> Limits:
        return Limits(total_tokens=self._context_length, full_attention=self._full_attention)

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]

    def generate(self, token_ids: Sequence[int], max_new_tokens: int) -> Generation:
        total = min(len(token_ids) + max_new_tokens, self._context_length)
        new: list[int] = []
        first_token_s = None
        started = time.perf_counter()
        generator = self._generator(token_ids, total)
        while not generator.is_done():
            generator.generate_next_token()
            new.append(int(generator.get_next_tokens()[0]))
            first_token_s = first_token_s or time.perf_counter() - started
        total_s = time.perf_counter() - started
        tokens, stopped = cut_at_stop(new, self._stop_ids)
        text = str(self._tokenizer.decode(np.array(tokens, dtype=np.int32))) if tokens else ""
        return Generation(tokens, stopped, text, first_token_s, total_s)

    def _generator(self, token_ids: Sequence[int], max_length: int) -> Any:
        parameters = og.GeneratorParams(self._model)
        parameters.set_search_options(do_sample=False, max_length=max_length)
        generator = og.Generator(self._model, parameters)
        generator.append_tokens(np.array(token_ids, dtype=np.int32))
        return generator

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        # One token of room: at its full length a generator is done and gives nothing.
        generator = self._generator(token_ids, len(token_ids) + 1)
        return log_probabilities(generator.get_output("logits")[0][list(positions)])

    def executed_on(self) -> ExecutionEvidence:
        cleared = self._provider == "cpu"
        return ExecutionEvidence(
            device=str(self._model.device_type).upper(),
            how="device_type of the onnxruntime-genai model that generated and was scored",
            details={
                "built_for": self._built_for or ["cpu"],
                "providers": "cleared" if cleared else "as built",
                "device_type": str(self._model.device_type),
            },
        )
