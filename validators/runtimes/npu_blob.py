"""Run an NPU blob in OpenVINO GenAI's static pipeline: the blob is loaded, not the IR beside it.

Settings: ``npuw_devices``, ``NPU`` (or ``CPU``, for the blobs that tests make), and ``platform``,
the NPU platform that the row is. A blob that does not fit is refused by name before it is loaded,
because a plugin may crash on it; the failure then says whether the IR beside it works.
"""

import gc
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import openvino

from phiforge.artifact.npu_blob import (
    BLOB,
    MADE_FOR_CPU,
    read_label,
    weights_options,
)
from validators.contract import (
    ArtifactError,
    ExecutionEvidence,
    Proof,
    Runtime,
    only_known,
    shown,
)
from validators.lint.npu_blob import (
    REFUSED,
    TRUNCATED,
    WRONG_OPENVINO,
    WRONG_PLATFORM,
    refuse_other_code,
    refuse_unfit,
)
from validators.runtimes.openvino_npu import NpuRuntime, exactly_one

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")

# How the plugin says it (2026.4.1), and what that means.
_MESSAGES = {"end of ORC input stream": TRUNCATED, "different OV version": WRONG_OPENVINO}
_LONGEST_MESSAGE = 300
_FOLDERS = re.compile(r"[^\s\"'(]*[/\\]")


def open_runtime(artifact: Path, *, settings: Mapping[str, Any]) -> Runtime:
    """Open the blob of ``artifact``.

    Raises:
        CheckError: an unknown setting, or devices that are not exactly ``NPU`` or ``CPU``.
        ArtifactError: the blob does not fit, or is refused; named after the reason.
        RecordError: the artifact has no readable label.
    """
    only_known(settings, ["npuw_devices", "platform"], "npu_blob")
    devices = exactly_one(settings.get("npuw_devices", "NPU"))
    try:
        label = read_label(artifact)
        refuse_unfit(artifact, label, settings.get("platform"))
        if devices == "NPU":
            _check_code(artifact, label)
        return _BlobRuntime(artifact, devices, label)
    except ArtifactError as error:
        gc.collect()
        note = _fallback(artifact, devices)
        raise ArtifactError(error.name, f"{error}; {note}") from None


def _check_code(artifact: Path, label: Mapping[str, Any]) -> None:
    """Refuse a blob for another device than this machine's, by its label, bytes and driver."""
    refuse_other_code(artifact, label)
    core = openvino.Core()
    if "NPU" in core.available_devices:
        platform = str(core.get_property("NPU", "DEVICE_ARCHITECTURE"))
        if platform != label["platform"]:
            raise ArtifactError(
                WRONG_PLATFORM, f"compiled for NPU {label['platform']}, the device is {platform}"
            )


def _fallback(artifact: Path, devices: str) -> str:
    """Say whether the IR beside the blob works on this row, for users who do without the blob."""
    try:
        runtime = NpuRuntime(artifact, devices)
        runtime.generate(runtime.encode("Hello"), 1)
    except Exception as error:  # whatever the runtime raises: this is a note, not the verdict
        return f"the fallback IR does not work on this row either ({_short(error)})"
    return "the fallback IR works on this row"


class _BlobRuntime(NpuRuntime):
    """The static pipeline, imported from a blob in both its forms."""

    def __init__(self, artifact: Path, devices: str, label: Mapping[str, Any]) -> None:
        self._label = label
        self._weights = weights_options(artifact, label)
        extra = {"BLOB_PATH": str(artifact / BLOB), **self._weights}
        super().__init__(artifact, devices, extra=extra)
        self._at_once = 1  # so it was compiled
        imported = self._npuw_devices()
        if imported != devices:
            raise ArtifactError(
                MADE_FOR_CPU if imported == "CPU" else REFUSED,
                f"imported, its NPUW_DEVICES is {imported}, {devices} is wanted",
            )

    def _npuw_devices(self) -> str:
        """Return what the imported blob runs on."""
        return str(self.compiled().get_property("NPUW_DEVICES"))

    def compiled(self) -> Any:
        """Import the blob, which is scored in the pipeline's place."""
        self._pipeline = None
        if self._compiled is None:
            gc.collect()
            try:
                self._compiled = self.core.import_model(
                    (self.artifact / BLOB).read_bytes(), "NPU", self._weights
                )
            except Exception as error:  # whatever the plugin raises on a blob
                names = [name for text, name in _MESSAGES.items() if text in str(error)]
                raise ArtifactError(names[0] if names else REFUSED, _short(error)) from None
        return self._compiled

    def pipeline_proof(self) -> tuple[Proof, ...]:
        """Ask the blob: it runs where it was compiled for."""
        imported = self._npuw_devices()
        what = "NPUW_DEVICES of the blob that answered, asked after importing it"
        return (shown(what, imported, imported == self._devices, MADE_FOR_CPU),)

    def executed_on(self) -> ExecutionEvidence:
        """Report as for an IR; NPUW_DEVICES is the imported blob's own, and truthful."""
        evidence = super().executed_on()
        kept = ("platform", "interface", "compiler", "cache_mode", "weightless")
        blob = {"loaded": BLOB, **{key: self._label[key] for key in kept}}
        return replace(evidence, details={**evidence.details, "blob": blob})


def _short(error: Exception) -> str:
    """Cut a message to its end, without folders: OpenVINO's begin with its source files."""
    return " ".join(_FOLDERS.sub("", str(error)).split())[-_LONGEST_MESSAGE:]
