"""Run an IR as OpenVINO's runtimes share it: devices by name, inputs, pipeline and model."""

import gc
import re
import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino_genai
from numpy.typing import NDArray

from phiforge.artifact.payload_files import OPENVINO_IR
from validators.contract import (
    CheckError,
    ExecutionEvidence,
    Generation,
    Proof,
    cut_at_stop,
    shown,
)
from validators.cpu_info import cpu_info
from validators.device_counters import DeviceCounters, Read, gpu_busy, held_memory

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers")
Array = NDArray[Any]

_DESCRIBING = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "OPTIMIZATION_CAPABILITIES")
_ONE_DEVICE = re.compile(r"CPU|GPU(\.\d+)?")


def one_device(name: str) -> str:
    """Return ``name``, if it is one device.

    Raises:
        CheckError: AUTO, MULTI, HETERO and lists choose a device without a word.
    """
    if _ONE_DEVICE.fullmatch(name) is None:
        raise CheckError(
            "setting 'device' would hide which device ran",
            where="config/devices.yaml",
            expected="CPU, GPU or GPU.<number>",
            found=name,
        )
    return name


def inputs_of(model: Any, token_ids: Sequence[int], past: int = 0) -> dict[str, Any]:
    """Return the inputs of a stateful IR for ``token_ids`` that follow ``past`` earlier tokens."""
    count = len(token_ids)
    positions = np.arange(past, past + count)[None]
    mask = np.ones((1, past + count))
    return given(model, np.array([token_ids]), mask, positions, np.zeros(1))


def given(
    model: Any, input_ids: Array, attention_mask: Array, position_ids: Array, beam_idx: Array
) -> dict[str, Any]:
    """Return the inputs that the compiled ``model`` has, in their types.

    Shapes: input_ids and position_ids (rows, n), attention_mask (rows, past + n), beam_idx (rows,).
    """
    wanted = {
        "input_ids": input_ids.astype(np.int64),
        "attention_mask": attention_mask.astype(np.int64),
        "position_ids": position_ids.astype(np.int64),
        "beam_idx": beam_idx.astype(np.int32),
    }
    names = {port.any_name for port in model.inputs}
    return {name: value for name, value in wanted.items() if name in names}


class GenaiPipeline:
    """``openvino_genai.LLMPipeline`` of a payload, greedy, with the payload's own stop tokens."""

    def __init__(self, artifact: Path, device: str, properties: Mapping[str, Any]) -> None:
        self._pipeline = openvino_genai.LLMPipeline(artifact, device, **properties)
        self._tokenizer = self._pipeline.get_tokenizer()

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *, greedy: bool = True
    ) -> Generation:
        """See `validators.contract.Runtime.generate`."""
        config = self._pipeline.get_generation_config()
        config.max_new_tokens = max_new_tokens
        if greedy:
            config.do_sample = False
        started = time.perf_counter()
        result = self._pipeline.generate(_tokenized(token_ids), config)
        total_s = time.perf_counter() - started
        stop_ids = frozenset({*config.stop_token_ids, config.eos_token_id})
        tokens, stopped = cut_at_stop([int(token) for token in result.tokens[0]], stop_ids)
        return Generation(
            token_ids=tokens,
            stopped=stopped,
            text=str(self._tokenizer.decode(list(tokens))) if tokens else "",
            first_token_s=result.perf_metrics.get_ttft().mean / 1000,
            total_s=total_s,
        )

    def search_beams(self, token_ids: Sequence[int], count: int) -> list[tuple[int, ...]]:
        """See `validators.contract.Batching.search_beams`."""
        config = self._pipeline.get_generation_config()
        config.do_sample, config.max_new_tokens = False, count
        config.num_beams = config.num_return_sequences = 2
        found = self._pipeline.generate(_tokenized(token_ids), config).tokens
        return [tuple(int(token) for token in tokens) for tokens in found]


def _tokenized(token_ids: Sequence[int]) -> Any:
    ids = np.array([token_ids], dtype=np.int64)
    return openvino_genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))


class IrRuntime:
    """One IR as a pipeline that answers and as a compiled model that is scored.

    The two are never in memory together. A runtime gives the properties of each, and adds how to
    score and what proves the device.
    """

    decodes = True
    uses: Sequence[str] = ("defaults", "shortest", "longest")

    def __init__(
        self,
        artifact: Path,
        device: str,
        *,
        answering: Mapping[str, Any],
        scoring: Mapping[str, Any],
        core: openvino.Core,
        counters: DeviceCounters,
    ) -> None:
        self.artifact, self.device = artifact, device
        self.core, self.counters = core, counters
        self._answering, self._scoring = answering, scoring
        self._pipeline: GenaiPipeline | None = None
        self._compiled: Any = None

    def encode(self, text: str) -> list[int]:
        """See `validators.contract.Runtime.encode`."""
        return [int(token) for token in self._tokenizer.encode(text).input_ids.data[0]]

    @cached_property
    def _tokenizer(self) -> Any:
        """The tokenizer, compiled once: a check encodes hundreds of texts."""
        return openvino_genai.Tokenizer(self.artifact)

    def decode(self, batch: Sequence[Sequence[int]]) -> list[str]:
        """See `validators.contract.Runtime.decode`."""
        return [str(text) for text in self._tokenizer.decode([list(ids) for ids in batch])]

    def stream(self, token_ids: Sequence[int]) -> str:
        """See `validators.contract.Runtime.stream`."""
        parts: list[str] = []
        streamer = openvino_genai.TextStreamer(self._tokenizer, parts.append)
        for token in token_ids:
            streamer.write(token)
        streamer.end()
        return "".join(parts)

    def generate(
        self, token_ids: Sequence[int], max_new_tokens: int, *, greedy: bool = True
    ) -> Generation:
        """See `validators.contract.Runtime.generate`."""
        with self.counters.watch("it answered"):
            return self.pipeline().generate(token_ids, max_new_tokens, greedy=greedy)

    def pipeline(self) -> GenaiPipeline:
        """The pipeline that answers, in the compiled model's place."""
        self._compiled = None
        if self._pipeline is None:
            gc.collect()
            self._pipeline = GenaiPipeline(self.artifact, self.device, self._answering)
        return self._pipeline

    def compiled(self) -> Any:
        """The compiled model that is scored, in the pipeline's place."""
        self._pipeline = None
        if self._compiled is None:
            gc.collect()
            self._compiled = self.core.compile_model(
                self.artifact / OPENVINO_IR, self.device, dict(self._scoring)
            )
        return self._compiled


def gpu_counters(core: Any, device: str, busy: Mapping[str, Read] | None = None) -> DeviceCounters:
    """Return the counters of a GPU; none of the CPU, which works whatever executes.

    Args:
        busy: counters in place of the driver's.
    """
    if device == "CPU":
        return DeviceCounters()
    return DeviceCounters(
        busy=busy or {"drm-engine and drm-cycles of /proc/self/fdinfo": gpu_busy},
        held={"GPU_MEMORY_STATISTICS": partial(held_memory, core, device, "GPU_MEMORY_STATISTICS")},
    )


def device_family(names: Sequence[str]) -> str:
    """Return ``GPU`` of ``["GPU.0"]``; ``unknown`` of none, or of several kinds.

    >>> device_family(["GPU.0", "GPU.1"]), device_family(["NPU", "CPU"])
    ('GPU', 'unknown')
    """
    families = {name.split(".")[0] for name in names}
    return families.pop() if len(families) == 1 else "unknown"


def compiled_evidence(
    core: Any,
    compiled: Any,
    device: str,
    counters: DeviceCounters,
    *,
    how: str,
    pinned: Mapping[str, str],
    details: Mapping[str, Any],
) -> ExecutionEvidence:
    """Prove that ``compiled`` runs on ``device`` (CPU, GPU, GPU.n) and nowhere else."""
    executing = list(compiled.get_property("EXECUTION_DEVICES"))
    found, family = device_family(executing), device.split(".")[0]
    what = "EXECUTION_DEVICES of the compiled model"
    return ExecutionEvidence(
        device=found,
        how=how,
        proof=(
            shown(what, ", ".join(executing) or "none", found == family),
            listed(core, family),
            *(() if device == "CPU" else counters.proof()),
        ),
        pinned=pinned,
        details={**described(core, device, _DESCRIBING), **details, "cpu": cpu_info()},
    )


def listed(core: Any, family: str) -> Proof:
    """Prove that OpenVINO lists a device of this kind."""
    devices = list(core.available_devices)
    return shown(
        "devices that OpenVINO lists",
        ", ".join(devices) or "none",
        any(name.split(".")[0] == family for name in devices),
    )


def described(core: Any, device: str, names: Sequence[str]) -> dict[str, str]:
    """Return the properties among ``names`` that ``device`` has."""
    found = {}
    for name in names:
        try:
            found[name] = str(core.get_property(device, name))
        except RuntimeError:  # no such device, or not known to this version of its plugin
            continue
    return found
