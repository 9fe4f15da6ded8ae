"""OpenVINO GenAI's static NPU pipeline, on the NPU or, as its stand-in, on the CPU.

Settings: ``npuw_devices``, exactly ``NPU`` or ``CPU``. A list such as ``NPU,CPU`` is refused:
the pipeline would fall back to the CPU without a word. ``platform``: the generation of NPU that the
row is, such as ``4000``; another one is refused, because its answers would say nothing of this one.

The pipeline's options are those of the artifact's own ``npu-profile.json``, so that a check runs
what is shipped; only `PROFILE_OPTIONS` may be there, because others name devices too
(``NPUW_DEVICES``, ``++GENERATE_CONFIG``, ``NPUW_SUBMODEL_DEVICE``). A prompt longer than its
MAX_PROMPT_LEN does not run here; past MAX_PROMPT_LEN + MIN_RESPONSE_LEN tokens the pipeline does
not fail, it forgets, so both are limits (`phiforge.settings.limits`).

The pipeline gives no logits. They come from the same model compiled as the pipeline compiles it
(NPUW_LLM=YES, openvino.genai src/cpp/src/utils.cpp, compile_decoder_for_npu); that model gives
logits of the last token only, so scoring reads the first position at once and steps from there,
one token at a time. The stand-in takes many at a time, in the form that GenAI gives the model for
speculative decoding (NPUW_LLM_MAX_GENERATION_TOKEN_LEN): a step on the CPU reads all weights. Its
answers, which the pipeline gives, are stepwise all the same.

What proves the device: EXECUTION_DEVICES says NPU whatever ran; NPUW_DEVICES of a compiled model
is truthful; compiling an IR with NPUW_DEVICES=NPU fails where there is no NPU. Environment
variables change nothing (tried: NPUW_DEVICES, OPENVINO_NPUW_DEVICES).
"""

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from phiforge.artifact.payload_files import NPU_PROFILE
from phiforge.artifact.record import read_record
from phiforge.npu_compiler.properties import ON_CPU
from phiforge.settings.limits import NPU_LENGTHS
from validators.contract import (
    ArtifactError,
    CheckError,
    ExecutionEvidence,
    LogProbabilities,
    Proof,
    Runtime,
    only_known,
    shown,
)
from validators.cpu_info import cpu_info
from validators.device_counters import DeviceCounters, held_memory, npu_busy_time_us
from validators.metrics import log_probabilities
from validators.openvino_pipeline import IrRuntime, described, inputs_of, listed

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")

PROFILE_OPTIONS = ("MAX_PROMPT_LEN", "MIN_RESPONSE_LEN", "PREFILL_HINT", "GENERATE_HINT")

STAND_IN_TOKENS = 64
"""What the stand-in scores at once."""

_PLUGIN_FIXED: Mapping[str, Any] = {
    "NPU_USE_NPUW": "YES",
    "NPUW_LLM": "YES",
    "NPUW_LLM_BATCH_DIM": 0,
    "NPUW_LLM_SEQ_LEN_DIM": 2,
}
_DESCRIBING = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "NPU_DRIVER_VERSION")


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open ``artifact`` with the options of its profile.

    Raises:
        CheckError: an unknown setting, devices that are not exactly ``NPU`` or ``CPU``, or no NPU
            of the row's generation.
        ArtifactError: ``forbidden-option``, the profile's options are not all `PROFILE_OPTIONS`.
        RecordError: the artifact has no readable ``npu-profile.json``.
    """
    only_known(settings, ["npuw_devices", "platform"], "openvino_npu")
    if "platform" in settings:
        refuse_other_generation(openvino.Core(), settings["platform"])
    return NpuRuntime(artifact, exactly_one(settings.get("npuw_devices", "NPU")))


def refuse_other_generation(core: Any, platform: str) -> None:
    """Refuse a machine whose NPU is not the one that the row says.

    Raises:
        CheckError: there is none, or it is of another generation.
    """
    if "NPU" not in core.available_devices:
        raise CheckError(
            "there is no NPU here, or no driver for it",
            expected=f"NPU {platform}",
            found=", ".join(core.available_devices),
            remedy="run this where the NPU is, with its driver installed",
        )
    found = str(core.get_property("NPU", "DEVICE_ARCHITECTURE"))
    if found != platform:
        raise CheckError(
            "this machine's NPU is of another generation than the row",
            expected=platform,
            found=found,
            remedy=f"check it on the row npu-{found}",
        )


def exactly_one(devices: object) -> str:
    """Return ``devices``, if it is ``NPU`` or ``CPU``.

    Raises:
        CheckError: it is a list, or another device.
    """
    if devices not in ("NPU", "CPU"):
        raise CheckError(
            "setting 'npuw_devices' of runtime openvino_npu would hide which device ran",
            where="config/devices.yaml",
            expected="exactly NPU, or CPU for the stand-in",
            found=devices,
        )
    return str(devices)


def pipeline_options(artifact: Path) -> dict[str, Any]:
    """Return the options that the artifact's profile asks for, its lengths completed.

    Raises:
        ArtifactError: ``forbidden-option``.
        RecordError: there is no readable profile.
    """
    options = read_record(artifact / NPU_PROFILE)["pipeline_options"]
    for name, value in options.items():
        if name not in PROFILE_OPTIONS or not isinstance(value, int | str):
            raise ArtifactError(
                "forbidden-option",
                f"{NPU_PROFILE} asks for {name}={value!r}; only plain values of "
                f"{', '.join(PROFILE_OPTIONS)} may come with an artifact",
            )
    return {**NPU_LENGTHS, **options}


class NpuRuntime(IrRuntime):
    """The static pipeline of an artifact.

    It takes a prompt of one token for the next one of the prompt before (OpenVINO's
    llm_infer_request.cpp tells them apart by the length), whatever the artifact.

    Args:
        devices: what NPUW_DEVICES is set to, ``NPU`` or ``CPU``.
        extra: more options of the pipeline, which the artifact does not choose: BLOB_PATH.
    """

    uses = ("defaults", "longest")

    def __init__(
        self, artifact: Path, devices: str, *, extra: Mapping[str, Any] | None = None
    ) -> None:
        self.options = pipeline_options(artifact)
        self._devices = devices
        self._pinned = ON_CPU if devices == "CPU" else {}
        self._at_once = STAND_IN_TOKENS if devices == "CPU" else 1
        at_once = {} if devices == "NPU" else {"NPUW_LLM_MAX_GENERATION_TOKEN_LEN": self._at_once}
        given = {"NPUW_DEVICES": devices, **self._pinned}
        plugin = {f"NPUW_LLM_{name}": value for name, value in self.options.items()}
        core = openvino.Core()
        super().__init__(
            artifact,
            "NPU",
            answering={**self.options, **(extra or {}), **given},
            scoring={**_PLUGIN_FIXED, **plugin, **given, **at_once},
            core=core,
            counters=_npu_counters(core),
        )

    def score(self, token_ids: Sequence[int], positions: Sequence[int]) -> LogProbabilities:
        """See `validators.contract.Runtime.score`; stepwise."""
        compiled = self.compiled()
        request = compiled.create_infer_request()
        request.reset_state()
        wanted, kept = set(positions), []
        end, longest = positions[-1] + 1, int(self.options["MAX_PROMPT_LEN"])
        read, upto = 0, min(positions[0] + self._at_once, longest, end)
        with self.counters.watch("it was scored"):
            while read < end:
                rows = self._last_logits(request, compiled, token_ids[read:upto], read)
                first = upto - len(rows)
                kept += [row for place, row in enumerate(rows, first) if place in wanted]
                read, upto = upto, min(upto + self._at_once, end)
        return log_probabilities(np.stack(kept))

    def _last_logits(self, request: Any, compiled: Any, token_ids: Sequence[int], past: int) -> Any:
        """Return the logits of the last `_at_once` of ``token_ids``."""
        logits = next(iter(request.infer(inputs_of(compiled, token_ids, past)).values()))
        rows = logits[0, -min(self._at_once, len(token_ids)) :]
        return np.array(rows)  # a copy: the request writes its next result there

    def executed_on(self) -> ExecutionEvidence:
        """Prove NPUW_DEVICES of pipeline and model and, of an NPU, what its driver says."""
        found = str(self.compiled().get_property("NPUW_DEVICES"))
        proof = (
            *self.pipeline_proof(),
            shown("NPUW_DEVICES of the model that was scored", found, found == self._devices),
        )
        if self._devices == "NPU":
            proof += self._npu_proof()
        return ExecutionEvidence(
            device=found if found in ("NPU", "CPU") else "unknown",
            how="NPUW_DEVICES of the compiled model",
            proof=proof,
            pinned=self._pinned,
            details={
                "pipeline_options": dict(self.options),
                **described(self.core, self._devices, _DESCRIBING),
                "cpu": cpu_info(),
            },
        )

    def pipeline_proof(self) -> tuple[Proof, ...]:
        """Prove the device of the pipeline that answered; it cannot be asked itself.

        A blob runs where it was compiled for, whatever it is given: a runtime that imports one
        must show the imported model's own NPUW_DEVICES here instead.
        """
        what = "NPUW_DEVICES that the answering pipeline was compiled with, from the IR"
        return (Proof(what, self._devices),)

    def _npu_proof(self) -> tuple[Proof, ...]:
        found = described(self.core, "NPU", _DESCRIBING)
        return (
            listed(self.core, "NPU"),
            *(
                shown(name, found.get(name, "unknown"), bool(found.get(name)))
                for name in _DESCRIBING
            ),
            *self.counters.proof(),
        )


def _npu_counters(core: Any) -> DeviceCounters:
    if sys.platform == "win32":  # its driver has no busy time
        read = partial(held_memory, core, "NPU", "NPU_DEVICE_ALLOC_MEM_SIZE")
        return DeviceCounters(held={"NPU_DEVICE_ALLOC_MEM_SIZE": read})
    return DeviceCounters(busy={"npu_busy_time_us": npu_busy_time_us})
