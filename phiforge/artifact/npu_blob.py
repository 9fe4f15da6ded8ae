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

Inside are the compiled submodels. One of the NPU plugin ends with ``OVNPU`` and metadata
(intel_npu/src/common/src/blob_writer.cpp) and says before that what it was compiled for,
``compiler=8.4;npu=4000;t=4;elf=1.2.2;mi=11.4.10``; ``mi`` is the version of the mapped-inference
interface, which a driver must know (linux-npu-driver #28). One of the CPU plugin carries the
instruction set that it was compiled for, ``ov=2026.4.1;isa=Intel AVX-512…``.
"""

import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record
from phiforge.errors import PhiforgeError

BLOB = "openvino_model.blob"
LABEL = "npu-blob.json"
MADE_FOR_CPU = "blob-made-for-cpu"

_MAGIC = b"\x137npuwLLMCMO"
_NPU_CODE = re.compile(rb"OVNPU")
_NPU_MARK = re.compile(rb"npu=(\d+);t=\d+;elf=[\d.]+;mi=([\d.]+)")
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


@dataclass(frozen=True)
class NpuCode:
    """What the submodels of a blob say that they were compiled for.

    Attributes:
        submodels: how many there are.
        platforms: each NPU platform that is named, ``4000``.
        interfaces: each version of the mapped-inference interface that is named.
    """

    submodels: int
    platforms: tuple[str, ...]
    interfaces: tuple[str, ...]


def read_code(blob: Path) -> NpuCode:
    """Read the marks of a blob's submodels."""
    with blob.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        marks = {(mark[1].decode(), mark[2].decode()) for mark in _NPU_MARK.finditer(view)}
        submodels = sum(1 for _ in _NPU_CODE.finditer(view))
    platforms, interfaces = ({mark[at] for mark in marks} for at in (0, 1))
    return NpuCode(submodels, tuple(sorted(platforms)), tuple(sorted(interfaces)))


def objections(
    blob: Path, code: NpuCode, *, platform: str | None, weightless: bool
) -> Iterator[str]:
    """Yield what in a blob's bytes is not as it was asked for.

    Args:
        code: of the blob (`read_code`).
        platform: NPU platform that every submodel must be compiled for; None: it is for the CPU,
            as tests make it.
        weightless: whether its weights stay in the IR.

    Raises:
        BlobError: it is no complete blob.
    """
    header = read_header(blob)
    if header.encrypted or header.weightless != weightless:
        found = f"weightless {header.weightless}, encrypted {header.encrypted}"
        yield f"it should be weightless {weightless} and not encrypted, and is {found}"
    if platform is None:
        return
    if (objection := not_npu_code(blob)) is not None:
        yield f"{MADE_FOR_CPU}: {objection}"
        return
    if code.platforms != (platform,):
        found = ", ".join(code.platforms) or "none"
        yield f"its submodels should be for NPU {platform}, and are for {found}"
    if len(code.interfaces) != 1:
        yield f"its submodels name {len(code.interfaces)} versions of the driver's interface"


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
