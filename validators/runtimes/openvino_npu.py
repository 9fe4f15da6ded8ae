"""OpenVINO GenAI's static NPU pipeline, on the NPU or, as its stand-in, on the CPU.

Settings: ``npuw_devices``, exactly ``NPU`` or ``CPU``. A list such as ``NPU,CPU`` is refused:
the pipeline would fall back to the CPU without a word.

The pipeline's options are those of the artifact's own ``npu-profile.json``, so that a check runs
what is shipped. A prompt longer than its MAX_PROMPT_LEN does not run here; past MAX_PROMPT_LEN +
MIN_RESPONSE_LEN tokens the pipeline does not fail, it forgets, so `limits` tells both numbers.

The pipeline gives no logits. They come from the same model compiled as the pipeline compiles it
(NPUW_LLM=YES, openvino.genai src/cpp/src/utils.cpp, compile_decoder_for_npu); that model gives
logits of the last token only, so scoring reads the first position at once and steps from there,
one token at a time. The two are never in memory together.
"""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from records.record import read_record
from validators.contract import (
    CheckError,
    ExecutionEvidence,
    Generation,
    Limits,
    LogProbabilities,
    Runtime,
    only_known,
)
from validators.metrics import log_probabilities
from validators.openvino_pipeline import IR, GenaiPipeline, inputs_of, own_encoding

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")

PROFILE = "npu-profile.json"
# OpenVINO GenAI's defaults, where a profile leaves them out.
DEFAULT_LENGTHS = {"MAX_PROMPT_LEN": 1024, "MIN_RESPONSE_LEN": 128}

# What OpenVINO GenAI's own tests use where there is no NPU. The partitioner is off because it
# needs deep models; the key-value cache of the static pipeline is float16 at the finest.
STAND_IN: Mapping[str, str] = {
    "NPUW_ONLINE_PIPELINE": "NONE",
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f16",
}

# The pipeline's options, as the plugin calls them.
_PLUGIN_NAMES = {
    name: f"NPUW_LLM_{name}"
    for name in (
        "MAX_PROMPT_LEN",
        "MIN_RESPONSE_LEN",
        "PREFILL_CONFIG",
        "PREFILL_HINT",
        "GENERATE_CONFIG",
        "GENERATE_HINT",
        "SHARED_HEAD_CONFIG",
    )
}
_PLUGIN_FIXED: Mapping[str, Any] = {
    "NPU_USE_NPUW": "YES",
    "NPUW_LLM": "YES",
    "NPUW_LLM_BATCH_DIM": 0,
    "NPUW_LLM_SEQ_LEN_DIM": 2,
}


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open ``artifact`` with the options of its profile.

    Raises:
        CheckError: an unknown setting, or devices that are not exactly ``NPU`` or ``CPU``.
        RecordError: the artifact has no readable ``npu-profile.json``.
    """
    only_known(settings, ["npuw_devices"], "openvino_npu")
    devices = settings.get("npuw_devices", "NPU")
    if devices not in ("NPU", "CPU"):
        raise CheckError(
            "setting 'npuw_devices' of runtime openvino_npu would hide which device ran",
            where="config/devices.yaml",
            expected="exactly NPU, or CPU for the stand-in",
            found=devices,
        )
    options = read_record(artifact / PROFILE)["pipeline_options"]
    return _NpuRuntime(artifact, options, devices)


class _NpuRuntime:
    def __init__(self, artifact: Path, options: Mapping[str, Any], devices: str) -> None:
        self._artifact = artifact
        self._options = {**DEFAULT_LENGTHS, **options}
        self._numerics = {"NPUW_DEVICES": devices, **(STAND_IN if devices == "CPU" else {})}
        self._core = openvino.Core()
        self._pipeline: GenaiPipeline | None = None
        self._compiled: Any = None

    def limits(self) -> Limits:
        prompt = int(self._options["MAX_PROMPT_LEN"])
        return Limits(prompt, prompt + int(self._options["MIN_RESPONSE_LEN"]))

    def encode(self, text: str) -> list[int]:
        return own_encoding(self._artifact, text)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int) -> Generation:
        self._compiled = None
        if self._pipeline is None:
            gc.collect()
            self._pipeline = GenaiPipeline(
                self._artifact, "NPU", {**self._options, **self._numerics}
            )
        return self._pipeline.generate(token_ids, max_new_tokens)

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        compiled = self._compile()
        request = compiled.create_infer_request()
        request.reset_state()
        wanted = set(positions)
        first = min(positions[0] + 1, int(self._options["MAX_PROMPT_LEN"]))
        rows = [self._last_logits(request, compiled, token_ids[:first], 0)]
        kept = [rows[0]] if first - 1 in wanted else []
        for position in range(first, positions[-1] + 1):
            row = self._last_logits(request, compiled, token_ids[position : position + 1], position)
            if position in wanted:
                kept.append(row)
        return log_probabilities(np.stack(kept))

    @staticmethod
    def _last_logits(request: Any, compiled: Any, token_ids: Sequence[int], past: int) -> Any:
        logits = next(iter(request.infer(inputs_of(compiled, token_ids, past)).values()))
        return np.array(logits[0, -1])  # a copy: the request writes its next result there

    def _compile(self) -> Any:
        self._pipeline = None
        if self._compiled is None:
            gc.collect()
            options = {_PLUGIN_NAMES.get(name, name): self._options[name] for name in self._options}
            self._compiled = self._core.compile_model(
                self._artifact / IR, "NPU", {**_PLUGIN_FIXED, **options, **self._numerics}
            )
        return self._compiled

    def executed_on(self) -> ExecutionEvidence:
        compiled = self._compile()
        # EXECUTION_DEVICES says NPU whatever ran; the list that NPUW was given is truthful.
        ran_on = str(compiled.get_property("NPUW_DEVICES"))
        listed = list(self._core.available_devices)
        if ran_on == "NPU" and "NPU" not in listed:
            ran_on = "unknown"
        return ExecutionEvidence(
            device=ran_on if ran_on in ("NPU", "CPU") else "unknown",
            how="NPUW_DEVICES of the compiled model, and the devices that OpenVINO lists",
            details={
                "npuw_devices": str(compiled.get_property("NPUW_DEVICES")),
                "available_devices": listed,
                "pipeline_options": dict(self._options),
                "properties": self._numerics,
                "full_device_name": self._core.get_property(
                    ran_on if ran_on == "NPU" else "CPU", "FULL_DEVICE_NAME"
                ),
            },
        )
