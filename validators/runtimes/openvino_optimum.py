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

from validators.contract import ExecutionEvidence, LogProbabilities, Runtime, only_known
from validators.metrics import log_probabilities
from validators.openvino_pipeline import compiled_evidence, gpu_counters, one_device
from validators.runtimes.openvino import GUIDE, PINNED
from validators.transformers_runtime import TransformersRuntime

TOOLCHAIN = ("openvino", "optimum", "optimum-intel", "transformers", "torch", "numpy")


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open ``artifact`` with OVModelForCausalLM on ``settings["device"]``.

    Raises:
        CheckError: an unknown setting, or more than one device.
    """
    only_known(settings, ["device"], "openvino_optimum")
    return _OptimumRuntime(artifact, one_device(str(settings.get("device", "GPU.0"))))


class _OptimumRuntime(TransformersRuntime):
    uses = (*TransformersRuntime.uses, "batch", "beams")

    def __init__(self, artifact: Path, device: str) -> None:
        self._device = device
        self._pinned = PINNED if device == "CPU" else {}
        self._properties = {**GUIDE, **self._pinned}
        counters = gpu_counters(core, device)
        model = OVModelForCausalLM.from_pretrained(
            str(artifact),  # optimum's file search fails on a Path
            export=False,
            device=device,
            ov_config=dict(self._properties),
            config=AutoConfig.from_pretrained(artifact, local_files_only=True),
            local_files_only=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(artifact, local_files_only=True)
        super().__init__(model, tokenizer, counters)

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        inputs = torch.tensor([list(token_ids)])
        with self.counters.watch("it was scored"):
            logits = self.model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).logits
        return log_probabilities(logits[0][list(positions)].float().numpy())

    def executed_on(self) -> ExecutionEvidence:
        return compiled_evidence(
            core,
            self.model.request.get_compiled_model(),
            self._device,
            self.counters,
            how="EXECUTION_DEVICES of the model that OVModelForCausalLM compiled",
            pinned=self._pinned,
            details={"ov_config": self._properties},
        )
