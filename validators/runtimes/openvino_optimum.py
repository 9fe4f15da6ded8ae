"""The IR loaded and run as the original guide does it: optimum-intel's OVModelForCausalLM.

Settings: ``device``, one device such as ``GPU.0``, the guide's.

The guide's ``ov_config`` is used as it stands. On the CPU the numerics are pinned besides
(`validators.runtimes.openvino`), so that a stand-in's verdict does not depend on the host. The
guide's ``trust_remote_code=True`` is left out: transformers has Phi-3 built in.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from optimum.intel import OVModelForCausalLM
from optimum.intel.openvino.modeling_base import core
from transformers import AutoConfig, AutoTokenizer

from validators.contract import (
    ExecutionEvidence,
    Generation,
    Limits,
    LogProbabilities,
    Runtime,
    only_known,
)
from validators.cpu_info import cpu_info
from validators.metrics import log_probabilities
from validators.openvino_pipeline import (
    described,
    device_family,
    device_proofs,
    gpu_counters,
    one_device,
)
from validators.runtimes.openvino import DESCRIBING, PINNED
from validators.transformers_loop import answer

TOOLCHAIN = ("openvino", "optimum", "optimum-intel", "transformers", "torch", "numpy")

GUIDE: Mapping[str, str] = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": "1", "CACHE_DIR": ""}


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open ``artifact`` with OVModelForCausalLM on ``settings["device"]``.

    Raises:
        CheckError: an unknown setting, or more than one device.
    """
    only_known(settings, ["device"], "openvino_optimum")
    return _OptimumRuntime(artifact, one_device(str(settings.get("device", "GPU.0"))))


class _OptimumRuntime:
    def __init__(self, artifact: Path, device: str) -> None:
        self._device = device
        self._pinned = PINNED if device == "CPU" else {}
        self._properties = {**GUIDE, **self._pinned}
        self._counters = gpu_counters(core, device)
        self._tokenizer: Any = AutoTokenizer.from_pretrained(artifact, local_files_only=True)
        self._model: Any = OVModelForCausalLM.from_pretrained(
            str(artifact),  # a Path makes optimum stumble over its own file search
            export=False,
            device=device,
            ov_config=dict(self._properties),
            config=AutoConfig.from_pretrained(artifact, local_files_only=True),
            local_files_only=True,
        )

    def limits(self) -> Limits:
        return Limits()

    def encode(self, text: str) -> list[int]:
        return [int(token) for token in self._tokenizer(text)["input_ids"]]

    def generate(self, token_ids: Sequence[int], max_new_tokens: int) -> Generation:
        watch = self._counters.watch("it answered")
        return answer(self._model, self._tokenizer, token_ids, max_new_tokens, watch)

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        inputs = torch.tensor([list(token_ids)])
        with self._counters.watch("it was scored"):
            logits = self._model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits
        return log_probabilities(logits[0][list(positions)].float().numpy())

    def executed_on(self) -> ExecutionEvidence:
        compiled = self._model.request.get_compiled_model()
        on_cpu = self._device == "CPU"
        return ExecutionEvidence(
            device=device_family(list(compiled.get_property("EXECUTION_DEVICES"))),
            how="EXECUTION_DEVICES of the model that OVModelForCausalLM compiled",
            proof=(
                *device_proofs(core, compiled, self._device),
                *(() if on_cpu else self._counters.proof()),
            ),
            pinned=self._pinned,
            details={
                **described(core, self._device, DESCRIBING),
                "ov_config": self._properties,
                "cpu": cpu_info(),
            },
        )
