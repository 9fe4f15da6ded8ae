"""An NPU blob in OpenVINO GenAI's static pipeline: the blob is loaded, not the IR beside it.

Settings: ``npuw_devices``, ``NPU`` (or ``CPU``, for the blobs that tests make), and ``platform``,
the NPU platform that the row is. A blob that does not fit is refused by name before it is loaded,
because a plugin may crash on it; the failure then says whether the IR beside it works.
"""

import gc
import re
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import openvino

from phiforge.artifact.npu_blob import (
    BLOB,
    MADE_FOR_CPU,
    BlobError,
    not_npu_code,
    read_header,
    read_label,
    weights_options,
)
from phiforge.artifact.tree import sha256_file
from validators.contract import (
    ArtifactError,
    ExecutionEvidence,
    Proof,
    Runtime,
    only_known,
    shown,
)
from validators.runtimes.openvino_npu import NpuRuntime, exactly_one

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers", "numpy")

TRUNCATED = "blob-truncated"
WRONG_OPENVINO = "blob-wrong-openvino"
WRONG_PLATFORM = "blob-wrong-platform"
WEIGHTS_MISSING = "blob-weights-missing"
REFUSED = "blob-refused"

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
        _refuse_what_does_not_fit(artifact, label, settings.get("platform"))
        if devices == "NPU":
            _refuse_other_code(artifact, label)
        return _BlobRuntime(artifact, devices, label)
    except ArtifactError as error:
        gc.collect()
        note = _fallback(artifact, devices)
        raise ArtifactError(error.name, f"{error}; {note}") from None


def _refuse_what_does_not_fit(
    artifact: Path, label: Mapping[str, Any], platform: str | None
) -> None:
    blob = artifact / BLOB
    if platform is not None and label["platform"] != platform:
        raise ArtifactError(
            WRONG_PLATFORM, f"compiled for NPU {label['platform']}, this row is NPU {platform}"
        )
    size = blob.stat().st_size if blob.is_file() else 0
    if size < label["blob"]["size"]:
        raise ArtifactError(
            TRUNCATED, f"{BLOB} has {size} bytes, its label says {label['blob']['size']}"
        )
    try:
        written_by = read_header(blob).openvino
    except BlobError as error:
        raise ArtifactError(REFUSED, str(error)) from None
    here = _release_here()
    for who, found in (("its label says", label["openvino"]), ("it was written by", written_by)):
        if found != here:
            raise ArtifactError(
                WRONG_OPENVINO, f"{who} OpenVINO {found}, this is {here}; no other release loads it"
            )
    if label["weightless"]:
        _refuse_other_weights(artifact / label["ir"]["bin"]["file"], label["ir"]["bin"]["sha256"])


def _release_here() -> str:
    """major.minor.patch of the installed OpenVINO."""
    return ".".join(version("openvino").split(".")[:3])


def _refuse_other_weights(weights: Path, sha256: str) -> None:
    if not weights.is_file():
        raise ArtifactError(
            WEIGHTS_MISSING, f"the blob has no weights inside, and {weights.name} is not there"
        )
    found = sha256_file(weights)
    if found != sha256:
        raise ArtifactError(
            WEIGHTS_MISSING,
            f"the blob has no weights inside, and {weights.name} holds others: "
            f"expected {sha256}, found {found}",
        )


def _refuse_other_code(artifact: Path, label: Mapping[str, Any]) -> None:
    """What was compiled for another device than the one here, by its label, bytes and driver."""
    against = not_npu_code(artifact / BLOB)
    if against is None and label["made_for"] != "NPU":
        against = f"its label says that it was made for {label['made_for']}"
    if against is not None:
        raise ArtifactError(MADE_FOR_CPU, against)
    core = openvino.Core()
    if "NPU" in core.available_devices:
        found = str(core.get_property("NPU", "DEVICE_ARCHITECTURE"))
        if found != label["platform"]:
            raise ArtifactError(
                WRONG_PLATFORM, f"compiled for NPU {label['platform']}, the device is NPU {found}"
            )


def _fallback(artifact: Path, devices: str) -> str:
    """Whether the IR beside the blob works here; for whoever has to do without the blob."""
    try:
        runtime = NpuRuntime(artifact, devices)
        runtime.generate(runtime.encode("Hello"), 1)
    except Exception as error:  # whatever the runtime raises: this is a note, not the verdict
        return f"the fallback IR does not work here either ({_short(error)})"
    return "the fallback IR works here"


class _BlobRuntime(NpuRuntime):
    """The static pipeline, imported from a blob in both its forms."""

    def __init__(self, artifact: Path, devices: str, label: Mapping[str, Any]) -> None:
        self._label = label
        self._weights = weights_options(artifact, label)
        extra = {"BLOB_PATH": str(artifact / BLOB), **self._weights}
        super().__init__(artifact, devices, extra=extra)
        self._at_once = 1  # so it was compiled
        found = str(self.compiled().get_property("NPUW_DEVICES"))
        if found != devices:
            raise ArtifactError(
                MADE_FOR_CPU if found == "CPU" else REFUSED,
                f"imported, its NPUW_DEVICES is {found}, {devices} is wanted",
            )

    def compiled(self) -> Any:
        """The imported blob, which is scored; in the pipeline's place."""
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
        """A blob runs where it was compiled for, so its own NPUW_DEVICES tells."""
        found = str(self.compiled().get_property("NPUW_DEVICES"))
        what = "NPUW_DEVICES of the blob that answered, asked after importing it"
        return (shown(what, found, found == self._devices, MADE_FOR_CPU),)

    def executed_on(self) -> ExecutionEvidence:
        """As for an IR; NPUW_DEVICES is the imported blob's own, and truthful."""
        evidence = super().executed_on()
        kept = ("platform", "openvino_build", "compiler", "cache_mode", "weightless")
        told = {"loaded": BLOB, **{key: self._label[key] for key in kept}}
        return replace(evidence, details={**evidence.details, "blob": told})


def _short(error: Exception) -> str:
    """The end of a message, without folders: OpenVINO's begin with its source files."""
    return " ".join(_FOLDERS.sub("", str(error)).split())[-_LONGEST_MESSAGE:]
