"""The raw IR in OpenVINO: scored through `openvino.Core`, generating through OpenVINO GenAI.

Settings: ``device``, one OpenVINO device such as ``CPU``; ``numerics``, ``pinned`` (left out) or
``default``.

On a processor that has it, OpenVINO's CPU plugin computes in bfloat16 and quantizes activations
and the key-value cache by default. A verdict must not depend on the host, so float32 is pinned:
`PINNED`. Users run with the defaults, so the speed is measured with those: `AS_USED`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from validators.contract import (
    CheckError,
    ExecutionEvidence,
    LogProbabilities,
    Runtime,
    only_known,
)
from validators.device_counters import Read
from validators.metrics import log_probabilities
from validators.openvino_pipeline import (
    IrRuntime,
    compiled_evidence,
    given,
    gpu_counters,
    inputs_of,
    one_device,
)

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")
AS_USED = {"numerics": "default"}

PINNED: Mapping[str, str] = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
GUIDE: Mapping[str, str] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""}
"""The original guide's ``ov_config``."""
NUMERICS = ("pinned", "default")


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open the IR of ``artifact`` on ``settings["device"]``.

    Raises:
        CheckError: an unknown setting or numerics, or more than one device.
    """
    only_known(settings, ["device", "numerics"], "openvino")
    numerics = settings.get("numerics", "pinned")
    if numerics not in NUMERICS:
        raise CheckError(
            "setting 'numerics' of runtime openvino has an unknown value",
            where="config/devices.yaml",
            expected=f"one of {', '.join(NUMERICS)}",
            found=numerics,
        )
    device = one_device(str(settings.get("device", "CPU")))
    return OpenvinoRuntime(artifact, device, PINNED if numerics == "pinned" else {})


class OpenvinoRuntime(IrRuntime):
    """An IR on one device with ``pinned`` properties; ``busy`` counters besides the device's."""

    uses = (*IrRuntime.uses, "batch", "exchange", "beams")

    def __init__(
        self,
        artifact: Path,
        device: str,
        pinned: Mapping[str, str],
        busy: Mapping[str, Read] | None = None,
    ) -> None:
        self._pinned = pinned
        core = openvino.Core()
        super().__init__(
            artifact,
            device,
            answering=pinned,
            scoring=pinned,
            core=core,
            counters=gpu_counters(core, device, busy),
        )

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        compiled = self.compiled()
        request = compiled.create_infer_request()
        request.reset_state()
        with self.counters.watch("it was scored"):
            result = request.infer(inputs_of(compiled, token_ids))
        return log_probabilities(result["logits"][0][list(positions)])

    def search_beams(self, token_ids: Sequence[int], count: int) -> list[tuple[int, ...]]:
        return self.pipeline().search_beams(token_ids, count)

    def answer_batch(
        self, prompts: Sequence[Sequence[int]], count: int
    ) -> list[tuple[tuple[int, ...], LogProbabilities]]:
        """Pad on the left; rows change places after each token, as ``beam_idx`` lets them."""
        compiled = self.compiled()
        request = compiled.create_infer_request()
        request.reset_state()
        longest = max(map(len, prompts))
        rows = [[0] * (longest - len(ids)) + list(ids) for ids in prompts]
        mask = np.array([[0] * (longest - len(ids)) + [1] * len(ids) for ids in prompts])
        ids, order = np.array(rows), np.arange(len(prompts), dtype=np.int32)
        holds, scores = order, []
        for _ in range(count):
            positions = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, -ids.shape[1] :]
            with self.counters.watch("it was scored"):
                result = request.infer(given(compiled, ids, mask, positions, order))
            last = log_probabilities(result["logits"][:, -1])
            scores.append(last[np.argsort(holds)])
            order = np.sort(order)[::-1]  # for every token after the first
            holds, mask = holds[order], np.pad(mask[order], ((0, 0), (0, 1)), constant_values=1)
            ids = last.argmax(axis=1)[order][:, None]
        found = np.stack(scores, axis=1)
        return [(tuple(row.argmax(axis=1).tolist()), row) for row in found]

    def executed_on(self) -> ExecutionEvidence:
        compiled = self.compiled()
        return compiled_evidence(
            self.core,
            compiled,
            self.device,
            self.counters,
            how="EXECUTION_DEVICES of the compiled model; the pipeline is given the same device",
            pinned=self._pinned,
            details={
                "properties": {name: str(compiled.get_property(name)) for name in PINNED},
            },
        )
