"""The raw IR in OpenVINO's own GPU plugin, on this CPU (`make intel-gpu`).

Settings: ``device``, GPU; ``prompt_tokens`` and ``answer_tokens``, the longest prompt and answer
(`phiforge.settings.limits`).

The plugin is that of the wheel that users install, given the guide's ``ov_config``; it runs its
graph passes, kernel selection and OpenCL kernels on PoCL, an OpenCL in software, which answers as
an Intel GPU through a layer of ours (envs/intel_gpu). No GPU, no driver of one and none of oneDNN's
kernels is involved. Float32 is pinned, and also where the speed is measured: PoCL cannot run the
fused attention of half precision, the plugin's default (docs/without-the-hardware.md).
"""

import ctypes
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from validators.contract import CheckError, ExecutionEvidence, Runtime, only_known
from validators.device_counters import Read
from validators.intel_gpu_tree import LAYER
from validators.openvino_pipeline import one_device
from validators.runtimes.openvino import GUIDE, PINNED, OpenvinoRuntime

ATTENTION: Mapping[str, str] = {"ATTENTION_BACKEND": "SDPA"}
TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")


def installed(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the PoCL of the tree, whose lock the plan has held it to."""
    lock = (ROOT / "envs/intel_gpu/packages.lock").read_text(encoding="utf-8")
    [version] = re.findall(r"^pocl (\S+)\.dsc ", lock, flags=re.MULTILINE)
    return {"pocl": version}


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open the IR of ``artifact`` on the plugin's device.

    Raises:
        CheckError: an unknown setting, or this is not the tree of `make intel-gpu`.
    """
    only_known(settings, ["device", "prompt_tokens", "answer_tokens"], "openvino_gpu_software")
    if not LAYER.is_file():
        raise CheckError(
            "this runtime works in the tree of `make intel-gpu` only",
            where="config/devices.yaml",
            remedy="give its row environment: intel-gpu",
        )
    layer = ctypes.CDLL(str(LAYER))
    ran = {"kernels that PoCL was given": lambda: kernels_given(layer)}
    device = one_device(str(settings.get("device", "GPU")))
    return _SoftwareRuntime(artifact, device, {**GUIDE, **PINNED}, ran)


def kernels_given(layer: ctypes.CDLL) -> int:
    """Return how many kernels the layer in this process has passed on to PoCL."""
    return ctypes.c_ulong.in_dll(layer, "phiforge_kernels").value


class _SoftwareRuntime(OpenvinoRuntime):
    uses = ()  # each new length of a prompt is compiled for seconds; row cpu has them

    def __init__(
        self, artifact: Path, device: str, pinned: Mapping[str, str], busy: Mapping[str, Read]
    ) -> None:
        super().__init__(artifact, device, pinned, busy)
        # GenAI tries paged attention first, and where it does not build, takes this without a word.
        self._answering = {**pinned, **ATTENTION}

    def executed_on(self) -> ExecutionEvidence:
        evidence, pocl = super().executed_on(), installed({})["pocl"]
        architecture = evidence.details["DEVICE_ARCHITECTURE"]
        return replace(
            evidence,
            how=f"{evidence.how}. OpenVINO's GPU plugin on PoCL {pocl}, a software OpenCL, which "
            f"answers as {architecture} through phiforge's layer; float32 is pinned",
            pinned={**PINNED, **ATTENTION},
            details={
                **evidence.details,
                "ov_config": GUIDE,
                "software": True,
                "pocl": pocl,
                "layer_sha256": sha256_file(LAYER),
            },
        )
