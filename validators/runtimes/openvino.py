"""The raw IR in OpenVINO: scored through `openvino.Core`, generating through OpenVINO GenAI.

Settings: ``device``, an OpenVINO device such as ``CPU``.

On a processor that has it, OpenVINO's CPU plugin computes in bfloat16 and quantizes activations
and the key-value cache by default. A verdict must not depend on the host, so float32 is pinned:
`PINNED`. The scores' and the pipeline's model are never in memory together.
"""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openvino

from validators.contract import (
    ExecutionEvidence,
    Generation,
    Limits,
    LogProbabilities,
    Runtime,
    only_known,
)
from validators.metrics import log_probabilities
from validators.openvino_pipeline import (
    IR,
    GenaiPipeline,
    device_family,
    inputs_of,
    own_encoding,
)

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")

PINNED: Mapping[str, str] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open the IR of ``artifact`` on ``settings["device"]``."""
    only_known(settings, ["device"], "openvino")
    return _OpenvinoRuntime(artifact, str(settings.get("device", "CPU")))


class _OpenvinoRuntime:
    def __init__(self, artifact: Path, device: str) -> None:
        self._artifact, self._device = artifact, device
        self._core = openvino.Core()
        self._pipeline: GenaiPipeline | None = None
        self._compiled: Any = None

    def limits(self) -> Limits:
        return Limits()

    def encode(self, text: str) -> list[int]:
        return own_encoding(self._artifact, text)

    def generate(self, token_ids: Sequence[int], max_new_tokens: int) -> Generation:
        self._compiled = None
        if self._pipeline is None:
            gc.collect()
            self._pipeline = GenaiPipeline(self._artifact, self._device, PINNED)
        return self._pipeline.generate(token_ids, max_new_tokens)

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        compiled = self._compile()
        request = compiled.create_infer_request()
        request.reset_state()
        result = request.infer(inputs_of(compiled, token_ids))
        return log_probabilities(result["logits"][0][list(positions)])

    def _compile(self) -> Any:
        self._pipeline = None
        if self._compiled is None:
            gc.collect()
            self._compiled = self._core.compile_model(
                self._artifact / IR, self._device, dict(PINNED)
            )
        return self._compiled

    def executed_on(self) -> ExecutionEvidence:
        compiled = self._compile()
        devices = list(compiled.get_property("EXECUTION_DEVICES"))
        return ExecutionEvidence(
            device=device_family(devices),
            how="EXECUTION_DEVICES of the compiled model; the pipeline is given the same device",
            details={
                "execution_devices": devices,
                "full_device_name": self._core.get_property(self._device, "FULL_DEVICE_NAME"),
                "properties": {name: str(compiled.get_property(name)) for name in PINNED},
            },
        )
