"""Read a compiled NPU blob: its header, whose code it holds, and the label beside it.

A blob of OpenVINO's NPUW (the static LLM pipeline) begins with a header, after
https://github.com/openvinotoolkit/openvino src/plugins/intel_npu/src/plugin/npuw/
llm_compiled_model.cpp (`export_model`) and serialization.hpp; little-endian, measured on 2026.4.1::

    6 bytes   13 37 'npuw'
    6 bytes   'LLMCMO'
    3 int32   OpenVINO major, minor, patch; another release refuses the blob
    uint64 n, n bytes   version of the serialization
    1 byte    encrypted
    1 byte    weightless: the weights stay in the IR's .bin

Inside are the compiled submodels. One of the NPU plugin carries ``OVNPU``
(intel_npu/src/common/src/blob_writer.cpp); one of the CPU plugin carries the instruction set that
it was compiled for, ``ov=2026.4.1;isa=Intel AVX-512…``.
"""

import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record
from phiforge.errors import PhiforgeError

BLOB = "openvino_model.blob"
LABEL = "npu-blob.json"
MADE_FOR_CPU = "blob-made-for-cpu"

ON_CPU: Mapping[str, str] = {
    "NPUW_ONLINE_PIPELINE": "NONE",
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f16",
}
"""Options that let the CPU take the NPU's place, after OpenVINO GenAI's own tests: the partitioner
needs deep models, and the key-value cache of the static pipeline is float16 at the finest."""

_MAGIC = b"\x137npuwLLMCMO"
_NPU_CODE = re.compile(rb"OVNPU")
_CPU_CODE = re.compile(rb"ov=\d+\.\d+\.\d+;isa=")


class BlobError(PhiforgeError):
    """A file is not a complete NPUW blob."""


@dataclass(frozen=True)
class BlobHeader:
    """The header of a blob.

    Attributes:
        openvino: major.minor.patch of the OpenVINO that wrote it, and that alone reads it.
        serialization: version of NPUW's own format.
        weightless: its weights are in the IR's .bin file.
    """

    openvino: str
    serialization: str
    encrypted: bool
    weightless: bool


def read_header(blob: Path) -> BlobHeader:
    """Read the header of a blob file.

    Raises:
        BlobError: it is no such file, or ends within its header.
    """
    with blob.open("rb") as stream:
        head = stream.read(256)
    if head[: len(_MAGIC)] != _MAGIC:
        raise BlobError(
            "not a blob of OpenVINO's LLM pipeline",
            where=blob.name,
            expected=_MAGIC.hex(),
            found=head[: len(_MAGIC)].hex() or "no bytes",
        )
    try:
        major, minor, patch, length = struct.unpack_from("<iiiQ", head, len(_MAGIC))
        start = len(_MAGIC) + struct.calcsize("<iiiQ")
        encrypted, weightless = struct.unpack_from("<??", head, start + length)
    except struct.error:
        raise BlobError("the blob ends within its header", where=blob.name) from None
    return BlobHeader(
        openvino=f"{major}.{minor}.{patch}",
        serialization=head[start : start + length].decode("ascii", "replace"),
        encrypted=encrypted,
        weightless=weightless,
    )


def not_npu_code(blob: Path) -> str | None:
    """Return what in a blob's bytes shows that it is not NPU code; None: nothing does.

    CPU code anywhere shows it: NPUW falls back submodel by submodel.
    """
    with blob.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        cpu = _CPU_CODE.search(view)
        if cpu is not None:
            mark = view[cpu.start() : cpu.end() + 40].split(b"\0")[0].decode("ascii", "replace")
            return f"its bytes hold code of the CPU plugin ('{mark}')"
        if _NPU_CODE.search(view) is None:
            return "its bytes hold no code of the NPU plugin (no 'OVNPU')"
    return None


def read_label(payload: Path) -> Mapping[str, Any]:
    """Read the label of a payload's blob, as `converters.npu_blob` wrote it.

    Raises:
        RecordError: it is missing or unreadable.
    """
    return read_record(payload / LABEL)


def not_made_for_npu(payload: Path, label: Mapping[str, Any]) -> str | None:
    """Return what in a payload's blob or label shows that it is not for an NPU; None: nothing."""
    if label["made_for"] != "NPU":
        return not_npu_code(payload / BLOB) or f"its label says it was made for {label['made_for']}"
    return not_npu_code(payload / BLOB)


def weights_options(payload: Path, label: Mapping[str, Any]) -> dict[str, str]:
    """Return what an import needs beside the blob: the IR's weights, if they are not inside."""
    if not label["weightless"]:
        return {}
    return {"WEIGHTS_PATH": str(payload / label["ir"]["bin"]["file"])}
