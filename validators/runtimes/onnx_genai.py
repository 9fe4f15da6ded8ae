"""An ONNX Runtime GenAI build: a session that answers, then one that gives all positions' logits.

Settings: ``provider``, one of ``cpu`` (the build's execution providers are cleared, so that its
own graph runs on the CPU), ``dml``, ``cuda`` or ``webgpu`` (the build as it is).

ONNX Runtime gives single operators to the CPU without a word, so device_type proves nothing
alone: the session that scores, of the same configuration, answers two tokens at its end and writes
its profile (`validators.ort_profile`). It is set up through `og.Config.overlay`; the payload is
not touched, and what is timed is not profiled. The two are never in memory together.
"""

import gc
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime_genai as og

from validators.contract import (
    CheckError,
    ExecutionEvidence,
    Generation,
    LogProbabilities,
    Runtime,
    cut_at_stop,
    only_known,
    shown,
)
from validators.cpu_info import cpu_info
from validators.genai_build import read_build
from validators.metrics import log_probabilities
from validators.ort_profile import Ran, executor, genai_device, proofs, read_profile

TOOLCHAIN = ("onnx", "onnxruntime", "onnxruntime-genai", "numpy")

PROVIDERS = ("cpu", "dml", "cuda", "webgpu")
_PROFILED_PROMPT = 64
_PROFILED_TOKENS = 2  # the first makes the prompt's pass, the second a step


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


class ProfiledSession:
    """A session that tells what ran, once it is closed."""

    def __init__(self, artifact: Path, provider: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="phiforge-profile-")
        options = {"enable_profiling": str(Path(self._folder.name) / "session")}
        config = _configuration(artifact, provider)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self.model: Any = og.Model(config)

    def close(self, token_ids: Sequence[int]) -> Ran:
        """Answer ``token_ids`` with a few tokens, end the session and read what ran in it."""
        _answer(self.model, token_ids)
        self.model = None
        gc.collect()
        with self._folder as folder:
            (file,) = Path(folder).glob("*.json")  # written when the session ends
            return read_profile(file)


def _configuration(artifact: Path, provider: str) -> Any:
    config = og.Config(str(artifact))
    if provider == "cpu":
        config.clear_providers()
    return config


def _answer(model: Any, token_ids: Sequence[int]) -> None:
    total = len(token_ids) + _PROFILED_TOKENS
    generator = _generator(model, [token_ids], max_length=total, do_sample=False)
    while not generator.is_done():
        generator.generate_next_token()


def _generator(model: Any, rows: Sequence[Sequence[int]], **options: Any) -> Any:
    """A generator that has read ``rows`` of one length; ``options`` override search defaults."""
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(batch_size=len(rows), **options)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.array(rows, dtype=np.int32))
    return generator


class _OnnxGenaiRuntime:
    decodes = True
    uses: Sequence[str] = ("defaults", "shortest", "longest")

    def __init__(self, artifact: Path, provider: str) -> None:
        if provider == "cpu":  # DirectML refuses beams with graph capture; CUDA was not seen
            self.uses = (*self.uses, "batch", "beams")
        self._artifact, self._provider = artifact, provider
        self._build = read_build(artifact)
        self._answering: Any = None
        self._scoring: ProfiledSession | None = None
        self._tokenizer: Any = og.Tokenizer(og.Config(str(artifact)))
        self._last_asked: Sequence[int] = ()
        self._stop_ids = frozenset(int(token) for token in self._tokenizer.eos_token_ids)

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer.encode(text)]

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        return [str(self._tokenizer.decode(np.array(ids, dtype=np.int32))) for ids in batch]

    def stream(self, token_ids: Sequence[int]) -> str:
        stream = self._tokenizer.create_stream()
        return "".join(str(stream.decode(token)) for token in token_ids)

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *, greedy: bool = True
    ) -> Generation:
        longest = self._build.context_length if greedy else self._build.max_length
        total = min(len(token_ids) + max_new_tokens, longest)
        options = {"do_sample": False} if greedy else {}
        new: list[int] = []
        first_token_s = None
        model = self._answers()
        started = time.perf_counter()
        generator = _generator(model, [token_ids], max_length=total, **options)
        while not generator.is_done():
            generator.generate_next_token()
            new.append(int(generator.get_next_tokens()[0]))
            first_token_s = first_token_s or time.perf_counter() - started
        total_s = time.perf_counter() - started
        tokens, stopped = cut_at_stop(new, self._stop_ids)
        text = str(self._tokenizer.decode(np.array(tokens, dtype=np.int32))) if tokens else ""
        return Generation(tokens, stopped, text, first_token_s, total_s)

    def _answers(self) -> Any:
        """The session that answers, in the place of the one that scores."""
        if self._answering is None:
            self._scoring = None
            gc.collect()
            self._answering = og.Model(_configuration(self._artifact, self._provider))
        return self._answering

    def search_beams(self, token_ids: Sequence[int], count: int) -> list[tuple[int, ...]]:
        total = len(token_ids) + count
        options = {"num_beams": 2, "num_return_sequences": 2, "do_sample": False}
        generator = _generator(self._answers(), [token_ids], max_length=total, **options)
        while not generator.is_done():
            generator.generate_next_token()
        found = [generator.get_sequence(place)[len(token_ids) :] for place in range(2)]
        return [tuple(int(token) for token in tokens) for tokens in found]

    def answer_batch(
        self, prompts: Sequence[Sequence[int]], count: int
    ) -> list[tuple[tuple[int, ...], LogProbabilities]]:
        longest, pad = max(map(len, prompts)), self._tokenizer.pad_token_id
        # GenAI's own encode_batch pads on the right, and its attention counts from the left
        rows = [[*ids, *[pad] * (longest - len(ids))] for ids in prompts]
        generator = _generator(
            self._profiled().model, rows, max_length=longest + count, do_sample=False
        )
        read = generator.get_output("logits")
        logits = [np.stack([row[len(ids) - 1] for row, ids in zip(read, prompts, strict=True)])]
        generator.generate_next_token()
        while len(logits) < count:
            generator.generate_next_token()
            logits.append(np.array(generator.get_output("logits")[:, -1]))
        scores = log_probabilities(np.stack(logits, axis=1))
        tokens = [generator.get_sequence(row)[longest:] for row in range(len(rows))]
        return [(tuple(map(int, ids)), row) for ids, row in zip(tokens, scores, strict=True)]

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        # One token of room: at its full length a generator is done and gives nothing.
        generator = _generator(
            self._profiled().model, [token_ids], max_length=len(token_ids) + 1, do_sample=False
        )
        self._last_asked = token_ids
        return log_probabilities(generator.get_output("logits")[0][list(positions)])

    def _profiled(self) -> ProfiledSession:
        """The session that scores, in the place of the one that answers."""
        if self._scoring is None:
            self._answering = None
            gc.collect()
            self._scoring = ProfiledSession(self._artifact, self._provider)
        return self._scoring

    def executed_on(self) -> ExecutionEvidence:
        session, self._scoring = self._profiled(), None
        device_type = genai_device(str(session.model.device_type))
        wanted = self._provider.upper()
        ran = session.close(self._last_asked[:_PROFILED_PROMPT])
        by_profile = executor(ran)
        return ExecutionEvidence(
            device=by_profile if by_profile == device_type else "unknown",
            how=f"device_type is {device_type}, the profile of the session says {by_profile}",
            proof=(
                shown("device_type of the model that ran", device_type, device_type == wanted),
                *proofs(ran, wanted, self._build.operators),
            ),
            details={
                "built_for": list(self._build.built_for),
                "providers": "cleared" if self._provider == "cpu" else "as built",
                "profile": ran,
                "cpu": cpu_info(),
            },
        )
