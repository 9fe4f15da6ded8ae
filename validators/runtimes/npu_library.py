"""Intel's NPU Acceleration Library, its modules filled from the payload's safetensors.

No settings. It runs in ``.venv-npu-library``: nothing here may import what that environment does
not have. `load_model` is what the card's snippet shows (phiforge/release/snippets/npu-library.py),
checked for missing and superfluous tensors besides: no original weights, no Hub, no pickle.

The library has no choice of device: where OpenVINO lists an NPU it compiles its matrices for it,
else, with a warning at import, for the CPU (compile_model in its inference.h). Either way
attention and everything between the matrices is transformers' own, in float32 on the CPU. Every
new length of a prompt is compiled anew, into ``cache/`` below the working directory.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from intel_npu_acceleration_library.backend import get_driver_version, npu_available, runtime
from intel_npu_acceleration_library.nn import Linear, QuantizedLinear
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from phiforge.artifact.payload_files import NPU_LIBRARY_LAYOUT
from phiforge.artifact.record import read_record
from phiforge.child import refuse_pickles
from validators.contract import (
    ArtifactError,
    ExecutionEvidence,
    LogProbabilities,
    Proof,
    Runtime,
    only_known,
    shown,
)
from validators.cpu_info import cpu_info
from validators.device_counters import DeviceCounters, npu_busy_time_us
from validators.metrics import log_probabilities
from validators.transformers_runtime import TransformersRuntime

ENVIRONMENT = "npu-library"
TOOLCHAIN = ("intel-npu-acceleration-library", "openvino", "transformers", "torch", "numpy")


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open ``artifact``.

    Raises:
        CheckError: an unknown setting; there are none.
        RecordError: the artifact has no readable ``npu-library.json``.
        ArtifactError: its tensors are not those that its configuration asks for.
    """
    only_known(settings, [], "npu_library")
    refuse_pickles()
    return _LibraryRuntime(artifact)


def load_model(artifact: Path, layout: Mapping[str, Any]) -> Any:
    """The model, every tensor of it from ``artifact``.

    Raises:
        ArtifactError: a tensor is missing or superfluous.
    """
    tensors: dict[str, Any] = {}
    for file in sorted(artifact.glob("*.safetensors")):
        tensors |= load_file(file)
    configuration = AutoConfig.from_pretrained(artifact, local_files_only=True)
    with torch.device("meta"):  # no memory and no random numbers for what is replaced
        model: Any = AutoModelForCausalLM.from_config(
            configuration,
            dtype=getattr(torch, layout["computes_in"]),
            attn_implementation=layout["attn_implementation"],
        )
    model.model.rotary_emb = type(model.model.rotary_emb)(configuration)
    for name, kind in layout["modules"].items():
        model.set_submodule(name, _module(name, kind, tensors))
    rest = {name: tensor.to(model.dtype) for name, tensor in tensors.items()}
    # The library's float16 modules are in place; strict would ask for their weights again.
    missing, unknown = model.load_state_dict(rest, strict=False, assign=True)
    absent = [name for name in missing if name.rpartition(".")[0] not in layout["modules"]]
    if absent or unknown:
        raise ArtifactError(
            "unreadable-artifact",
            f"tensors missing: {', '.join(absent) or 'none'}; "
            f"superfluous: {', '.join(unknown) or 'none'}",
        )
    model.generation_config = GenerationConfig.from_pretrained(artifact, local_files_only=True)
    return model.eval()


def _module(name: str, kind: str, tensors: dict[str, Any]) -> Any:
    """The library's module ``name``; its tensors are taken out of ``tensors``."""
    wanted = ("weight",) if kind == "Linear" else ("weight", "scale")
    for part in wanted:
        if f"{name}.{part}" not in tensors:
            raise ArtifactError("unreadable-artifact", f"tensor missing: {name}.{part}")
    weight = tensors.pop(f"{name}.weight")
    bias = tensors.pop(f"{name}.bias", None)
    if kind == "Linear":
        return Linear(weight, bias)
    scale = tensors.pop(f"{name}.scale")
    module = QuantizedLinear(weight, scale, bias)
    module.scale = scale  # the constructor multiplies a factor in, which is in already
    return module


class _LibraryRuntime(TransformersRuntime):  # batches and beams are transformers' own affair here
    def __init__(self, artifact: Path) -> None:
        self._layout = read_record(artifact / NPU_LIBRARY_LAYOUT)
        super().__init__(
            load_model(artifact, self._layout),
            AutoTokenizer.from_pretrained(artifact, local_files_only=True),
            DeviceCounters(busy={"npu_busy_time_us": npu_busy_time_us}),
            use_cache=True,
        )

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        with torch.no_grad(), self.counters.watch("it was scored"):
            logits = self.model(
                input_ids=torch.tensor([list(token_ids)]),
                logits_to_keep=torch.tensor(list(positions)),
                use_cache=False,
            ).logits
        return log_probabilities(logits[0].float().numpy())

    def executed_on(self) -> ExecutionEvidence:
        here = npu_available()
        matrices = sum(len(models) for models in runtime._model_cache.values())
        return ExecutionEvidence(
            device="NPU" if here else "CPU",
            how="whether OpenVINO lists an NPU to the library's backend, which then, and only "
            "then, compiles its matrices for it; without one it takes the CPU in silence",
            proof=(
                shown("matrices that the library compiled for it", matrices, matrices > 0),
                *(self._npu_proof() if here else ()),
            ),
            details={
                "npu_available": here,
                "dtype": self._layout["dtype"],
                "modules_of_the_library": len(self._layout["modules"]),
                "on_the_cpu_in_any_case": "embeddings, norms and attention, in "
                + str(self._layout["computes_in"]),
                "cpu": cpu_info(),
            },
        )

    def _npu_proof(self) -> tuple[Proof, ...]:
        driver = get_driver_version()
        return (shown("NPU_DRIVER_VERSION", driver, driver > 0), *self.counters.proof())
