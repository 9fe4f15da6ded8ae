"""An OpenVINO IR as it is stored, held against the options of its variant.

The XML is read as text, without OpenVINO, and nothing is believed that can be looked at: types and
shapes are those of the constants, sizes those of the bytes. Format of the IR:
https://docs.openvino.ai/2026/documentation/openvino-ir-format.html; of compressed weights in it
(``[rows, groups, group size]``, scales and zero points beside them): nncf's
``weight_compression/openvino_backend.py``.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np

from phiforge.artifact.payload_files import source_weight_name
from validators.contract import ArtifactError
from validators.lint.finding import Finding, some
from validators.lint.rounding import Matrix

# nncf keeps these in the backup mode unless all_layers says otherwise
_ENDS = ("model.embed_tokens.weight", "lm_head.weight")
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "u8": 8, "i8": 8, "u4": 4, "i4": 4, "nf4": 4}
_NUMPY = {"f32": np.float32, "f16": np.float16, "u8": np.uint8, "i8": np.int8}
_ACCOUNT = ("net", "rt_info", "nncf", "weight_compression")
_CHAT_TEMPLATE = ("net", "rt_info", "chat_template")


@dataclass(frozen=True)
class Constant:
    """A ``Const`` layer.

    Attributes:
        type: OpenVINO's name of the element type (``f16``, ``i4``, ``u8`` …).
        offset: of its bytes in the IR's ``.bin`` file; `size` is how many there are.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    offset: int
    size: int

    @property
    def source_name(self) -> str:
        """The weight's name in the source's terms, where the tracing has kept it."""
        return source_weight_name(self.name) or self.name

    @property
    def is_matrix(self) -> bool:
        """Two or more real dimensions, the last not 1: no vector, no scale, no zero point."""
        return (
            self.type in _BITS
            and sum(length > 1 for length in self.shape) > 1
            and self.shape[-1] > 1
        )


@dataclass(frozen=True)
class Ir:
    """What an IR says, in its own words.

    Attributes:
        account: what nncf says that it did (rt_info ``nncf/weight_compression``).
        chat_template: of a tokenizer's IR.
    """

    constants: tuple[Constant, ...]
    account: Mapping[str, str]
    chat_template: str | None

    @cached_property
    def matrices(self) -> Mapping[str, Constant]:
        """The weight matrices by their names in the source's terms."""
        return {one.source_name: one for one in self.constants if one.is_matrix}

    @cached_property
    def asymmetric(self) -> frozenset[str]:
        """The INT4 matrices with zero points."""
        beside = {one.name for one in self.constants}
        return frozenset(
            name
            for name, one in self.matrices.items()
            if one.type == "u4" or (one.type == "i4" and f"{one.name}/zero_point" in beside)
        )


def read_ir(xml: Path) -> Ir:
    """Read an IR's description; its ``.bin`` file is not touched.

    Raises:
        ArtifactError: ``unreadable-ir``: no such file, not XML, or XML with a document type, which
            an IR never has and which could name other files or expand without end.
    """
    constants: list[Constant] = []
    account: dict[str, str] = {}
    templates: list[str | None] = []
    path: list[str] = []
    layer: dict[str, str] = {}

    def start(tag: str, attributes: dict[str, str]) -> None:
        path.append(tag)
        if tag == "layer":
            layer.clear()
            layer.update(attributes)
        elif tag == "data" and path[-2:-1] == ["layer"] and layer.get("type") == "Const":
            constants.append(_constant(layer, attributes))
        elif tuple(path[:-1]) == _ACCOUNT:
            account[tag] = attributes.get("value", "")
        elif tuple(path) == _CHAT_TEMPLATE:
            templates.append(attributes.get("value"))

    def end(_: str) -> None:
        path.pop()

    def refuse(*_: object) -> None:
        raise ArtifactError("unreadable-ir", f"{xml.name} has a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    try:
        with xml.open("rb") as stream:
            parser.ParseFile(stream)
    except (expat.ExpatError, OSError, ValueError) as error:
        raise ArtifactError("unreadable-ir", f"{xml.name}: {error}") from None
    return Ir(tuple(constants), account, templates[0] if templates else None)


def _constant(layer: Mapping[str, str], data: Mapping[str, str]) -> Constant:
    lengths = data.get("shape", "").split(",")
    return Constant(
        name=layer.get("name", ""),
        type=data.get("element_type", ""),
        shape=tuple(int(length) for length in lengths if length.strip()),
        offset=int(data.get("offset", "0")),
        size=int(data.get("size", "0")),
    )


def lint_ir(ir: Ir, options: Mapping[str, Any]) -> list[Finding]:
    """Hold types, groups and the IR's own account against the options of converter ``openvino``.

    Args:
        options: as `converters.openvino.options` describes them.
    """
    found = _lint_types(ir, options) + _lint_account(ir, options)
    if options["weight_format"] == "int4":
        found += _lint_groups(ir, options) + _lint_ratio(ir, options)
    return found


def _primary(options: Mapping[str, Any]) -> str:
    if options["weight_format"] == "int4":
        return "i4" if options["symmetric"] else "u4"
    return {"fp16": "f16", "int8": "u8"}[options["weight_format"]]


def _lint_types(ir: Ir, options: Mapping[str, Any]) -> list[Finding]:
    primary = at_ends = _primary(options)
    allowed = {primary}
    if options["weight_format"] == "int4":
        backup = "i8" if options.get("backup_mode") == "int8_sym" else "u8"
        at_ends = primary if options.get("all_layers") else backup
        allowed |= {backup} if options["ratio"] < 1 else set()
    types = {name: matrix.type for name, matrix in ir.matrices.items()}
    asymmetric = sorted(ir.asymmetric) if primary == "i4" else []
    found = []
    if asymmetric:
        why = "; the NPU's compiler aborts on them" if "npu" in options else ""
        what = f"INT4 weights with zero points (u4), symmetric ones (i4) are declared{why}"
        found.append(Finding("asymmetric-weights", f"{what}: {some(asymmetric)}"))
    wrong = [name for name, kind in types.items() if name not in _ENDS and kind not in allowed]
    wrong += [name for name in _ENDS if types.get(name, at_ends) != at_ends]
    wrong = sorted(set(wrong) - set(asymmetric))
    if wrong or not (asymmetric or primary in types.values()):
        counts = sorted(Counter(types.values()).items())
        stored = ", ".join(f"{count} {kind}" for kind, count in counts) or "none"
        what = f"weights are {primary} by the variant's options, stored are {stored}"
        found.append(Finding("stored-types", what + (f": {some(wrong)}" if wrong else "")))
    return found


def _lint_groups(ir: Ir, options: Mapping[str, Any]) -> list[Finding]:
    size = options["group_size"]
    wrong = sorted(
        f"{name} {list(matrix.shape)}"
        for name, matrix in ir.matrices.items()
        if matrix.type in ("i4", "u4")
        and (len(matrix.shape) != 2 if size == -1 else matrix.shape[-1:] != (size,))
    )
    if not wrong:
        return []
    declared = "whole rows" if size == -1 else f"groups of {size}"
    return [Finding("group-size", f"{declared} are declared, stored are {some(wrong)}")]


def _lint_ratio(ir: Ir, options: Mapping[str, Any]) -> list[Finding]:
    """nncf takes layers in the order of their sensitivity until the next would pass the ratio."""
    inner = [one for name, one in ir.matrices.items() if name not in _ENDS]
    if options.get("all_layers"):
        inner = list(ir.matrices.values())
    sizes = [math.prod(one.shape) for one in inner]
    codes = sum(math.prod(one.shape) for one in inner if one.type in ("i4", "u4"))
    share, step = codes / max(sum(sizes), 1), max(sizes, default=0) / max(sum(sizes), 1)
    if options["ratio"] - step <= share <= options["ratio"] + 1e-6:
        return []
    what = f"{share:.3f} of the layers' weights are INT4, the declared ratio is {options['ratio']}"
    return [Finding("int4-ratio", what)]


def _lint_account(ir: Ir, options: Mapping[str, Any]) -> list[Finding]:
    expected: dict[str, str] = {}
    if options["weight_format"] == "int8":
        expected = {"mode": "int8_asym", "group_size": "-1", "ratio": "1.0"}
    elif options["weight_format"] == "int4":
        expected = {
            "mode": "int4_sym" if options["symmetric"] else "int4_asym",
            "group_size": str(options["group_size"]),
            "ratio": str(float(options["ratio"])),
        }
    told = {key: ir.account.get(key, "nothing") for key in expected} if expected else ir.account
    wrong = [
        f"{key} {told[key]}, not {expected.get(key, 'compressed at all')}"
        for key in told
        if told[key] != expected.get(key)
    ]
    if not wrong:
        return []
    what = f"the IR's own account (rt_info nncf/weight_compression) says {some(wrong)}"
    return [Finding("nncf-metadata", what)]


def lint_bytes(ir: Ir, weights: Path) -> list[Finding]:
    """Every matrix has as many bytes as its type and shape need, and the file has them all."""
    length = weights.stat().st_size if weights.is_file() else 0
    wrong = sorted(
        name
        for name, one in ir.matrices.items()
        if one.size != (math.prod(one.shape) * _BITS[one.type] + 7) // 8
        or one.offset + one.size > length
    )
    if not wrong:
        return []
    what = f"{weights.name} ({length} bytes) does not hold what the IR places there: {some(wrong)}"
    return [Finding("incomplete-weights", what)]


def mapped_matrices(ir: Ir, weights: Path) -> Iterator[Matrix]:
    """The matrices' values, mapped; `lint_bytes` must have found nothing."""
    data = np.memmap(weights, dtype=np.uint8, mode="r")
    for name, one in ir.matrices.items():
        stored = data[one.offset : one.offset + one.size]
        rows = one.shape[0]
        if one.type in ("i4", "u4"):
            yield Matrix(name, stored.reshape(rows, -1), 4)
        elif one.type in _NUMPY:
            dtype = np.dtype(_NUMPY[one.type])
            aligned = np.frombuffer(stored, dtype=dtype)
            yield Matrix(name, aligned.reshape(rows, -1), 8 * dtype.itemsize)
