"""Lint an NPU blob: what its bytes and its label say, before anything loads it.

A plugin may crash on a blob that does not fit, so each way in which it may not has a name of its
own. Nothing here needs an NPU or OpenVINO.
"""

import mmap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from phiforge.artifact.npu_blob import (
    BLOB,
    MADE_FOR_CPU,
    BlobError,
    not_made_for_npu,
    read_code,
    read_header,
)
from phiforge.artifact.payload_files import OPENVINO_IR, OPENVINO_WEIGHTS
from phiforge.artifact.tree import sha256_file
from validators.contract import ArtifactError, some
from validators.lint.openvino_ir import Ir, read_ir

TRUNCATED = "blob-truncated"
WRONG_OPENVINO = "blob-wrong-openvino"
WRONG_PLATFORM = "blob-wrong-platform"
WEIGHTS_MISSING = "blob-weights-missing"
OTHER_IR = "blob-of-another-ir"
REFUSED = "blob-refused"

_PREFIX = 64
"""Bytes by which a weight is looked for; what is found is compared whole."""


def refuse_unfit(artifact: Path, label: Mapping[str, Any], platform: str | None) -> None:
    """Refuse a blob that cannot be loaded on a row, or that is not the label's.

    Args:
        platform: of the row; None: whatever the label says.

    Raises:
        ArtifactError: another platform or release, a short one, without its weights, or beside
            another IR than it was compiled from.
    """
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
    own = ".".join(version("openvino").split(".")[:3])  # the header has no build number
    for source, release in (
        ("its label says", label["openvino"]),
        ("it was written by", written_by),
    ):
        if release != own:
            raise ArtifactError(
                WRONG_OPENVINO,
                f"{source} OpenVINO {release}, this is {own}; no other release loads it",
            )
    _refuse_other_ir(artifact, label)


def _refuse_other_ir(artifact: Path, label: Mapping[str, Any]) -> None:
    for described in (label["ir"]["xml"], label["ir"]["bin"]):
        file, expected = artifact / described["file"], described["sha256"]
        weights = label["weightless"] and file.name == OPENVINO_WEIGHTS
        name = WEIGHTS_MISSING if weights else OTHER_IR
        if not file.is_file():
            raise ArtifactError(name, f"{file.name}, which it was compiled from, is not there")
        if (digest := sha256_file(file)) != expected:
            raise ArtifactError(
                name,
                f"{file.name} is not what it was compiled from: expected {expected}, found "
                f"{digest}",
            )


def refuse_other_code(artifact: Path, label: Mapping[str, Any]) -> None:
    """Refuse a blob whose submodels are not all code for the label's NPU platform.

    Raises:
        ArtifactError: code of the CPU, of another platform, or another number of submodels.
    """
    objection = not_made_for_npu(artifact, label)
    if objection is not None:
        raise ArtifactError(MADE_FOR_CPU, objection)
    code = read_code(artifact / BLOB)
    if code.platforms != (label["platform"],):
        found = ", ".join(code.platforms) or "no platform"
        raise ArtifactError(
            WRONG_PLATFORM, f"labelled for NPU {label['platform']}, its submodels name {found}"
        )
    if (code.submodels, ", ".join(code.interfaces)) != (label["submodels"], label["interface"]):
        raise ArtifactError(
            REFUSED,
            f"its label says {label['submodels']} submodels of interface {label['interface']}, "
            f"it holds {code.submodels} of {', '.join(code.interfaces)}",
        )


def refuse_other_weights(blob: Path, ir: Path) -> None:
    """Refuse a blob that does not hold the matrices of the IR in the folder ``ir``.

    The compiler leaves the layers' matrices as they are where they are quantized in groups, and
    their scales. What is quantized channel by channel, the embedding and the LM head it folds into
    the submodels, where they are not recognised.

    Raises:
        ArtifactError: a matrix is not in it, byte for byte.
    """
    described = read_ir(ir / OPENVINO_IR)
    missing = list(_missing(blob, described, ir / OPENVINO_WEIGHTS))
    if missing:
        raise ArtifactError(
            WEIGHTS_MISSING, f"{len(missing)} weights of the IR are not in it: {some(missing)}"
        )


def _missing(blob: Path, ir: Ir, weights: Path) -> Iterator[str]:
    """Yield the names of what is not there; each is looked for behind the one before it first."""
    after: dict[str, int] = {}
    with _mapped(blob) as data, _mapped(weights) as source:
        for constant in ir.constants:
            quantized = constant.type in ("i4", "nf4") or constant.name.endswith("/scale")
            if ".layers." not in constant.name or not quantized or len(constant.shape) != 3:
                continue
            wanted = source[constant.offset : constant.offset + constant.size]
            found = _find(data, wanted, after.get(constant.type, 0))
            if found < 0:
                yield constant.source_name
            else:
                after[constant.type] = found + len(wanted)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as view:
        yield view


def _find(data: mmap.mmap, wanted: bytes, start: int) -> int:
    """Return where ``wanted`` is, looking from ``start`` on first; -1: nowhere."""
    for begin, end in ((start, len(data)), (0, start + len(wanted))):
        at = data.find(wanted[:_PREFIX], begin, end)
        while at >= 0:
            if data[at : at + len(wanted)] == wanted:
                return at
            at = data.find(wanted[:_PREFIX], at + 1, end)
    return -1
