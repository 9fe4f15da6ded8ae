"""Lint a stored OpenVINO IR against the options of its variant.

The XML is read as text, without OpenVINO: types and shapes are those of the constants, sizes those
of the bytes, whatever the metadata says. Format of the IR:
https://docs.openvino.ai/2026/documentation/openvino-ir-format.html; of compressed weights in it
(``[rows, groups, group size]``, scales and zero points beside them): nncf's
``weight_compression/openvino_backend.py``.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from xml.parsers import expat

from phiforge.artifact.payload_files import source_weight_name
from phiforge.receipts.receipt import Failure
from validators.contract import ArtifactError, some
from validators.lint.unknown_bytes import lint_unknown_bytes

# nncf keeps these in the backup mode unless all_layers says otherwise
_ENDS = ("model.embed_tokens.weight", "lm_head.weight")
_BITS = {"f32": 32, "f16": 16, "bf16": 16, "u8": 8, "i8": 8, "u4": 4, "i4": 4, "nf4": 4}
_4_BITS = ("i4", "u4", "nf4")
_RT_INFO = ["net", "rt_info"]
_METADATA = ("nncf", "weight_compression")
_RUNTIME_OPTIONS = "runtime_options"
_SECTIONS = {"info", "Runtime_version", "conversion_parameters", "nncf", "optimum"}
"""What else exporter and nncf write into a model's rt_info: versions and settings of their own."""
_ATTRIBUTES = {"decompression"}
"""What they write into a layer's."""
_LAYER = ["net", "layers", "layer"]
_EDGE = ["net", "edges", "edge"]
_SECTION = ("net", "layers")


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
        """Whether it is a matrix: no vector, scale or zero point."""
        return (
            self.type in _BITS
            and sum(length > 1 for length in self.shape) > 1
            and self.shape[-1] > 1
        )


@dataclass(frozen=True)
class Layer:
    """A node of the graph.

    Attributes:
        attributes: of its ``data``.
        inputs: by port: the layer (its id) and the port that it reads.
        constant: of a ``Const``.
    """

    type: str
    name: str
    attributes: Mapping[str, str]
    inputs: dict[int, tuple[str, int]]
    constant: Constant | None = None


@dataclass(frozen=True)
class Ir:
    """What an IR describes.

    Attributes:
        layers: by id; those inside the bodies of ``If`` and ``Loop`` are left out.
        rt_info: the model's, path of names to value.
        attributes: names of what the layers' rt_info holds.
    """

    constants: tuple[Constant, ...]
    rt_info: Mapping[tuple[str, ...], str | None]
    attributes: frozenset[str]
    layers: Mapping[str, Layer] = field(default_factory=dict)

    @property
    def nncf_metadata(self) -> Mapping[str, str]:
        """What nncf says that it did."""
        said = self.rt_info.items()
        return {path[2]: value or "" for path, value in said if path[:2] == _METADATA and path[2:]}

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
        ArtifactError: ``unreadable-ir``: no such file, not XML, a thing that stands twice, or XML
            with a document type, which an IR never has and which could name other files or expand
            without end.
    """
    constants: list[Constant] = []
    rt_info: dict[tuple[str, ...], str | None] = {}
    noted: set[str] = set()
    path: list[str] = []
    layer: dict[str, str] = {}
    layers: dict[str, Layer] = {}
    seen: set[tuple[str, ...]] = set()

    def once(*what: str) -> None:
        """Refuse what stands twice: OpenVINO may take the other one."""
        if what in seen:
            raise ValueError(f"{' '.join(what)} stands twice")
        seen.add(what)

    def start(tag: str, attributes: dict[str, str]) -> None:
        path.append(tag)
        if len(path) <= len(_SECTION):
            once(*path)
        if tag == "layer":
            layer.clear()
            layer.update(attributes)
            if path == _LAYER:
                once("layer", attributes.get("id", ""))
                name, kind = attributes.get("name", ""), attributes.get("type", "")
                layers[attributes.get("id", "")] = Layer(kind, name, {}, {})
        elif tag == "data" and path[-2:-1] == ["layer"]:
            constant = _constant(layer, attributes) if layer.get("type") == "Const" else None
            constants.extend([constant] if constant else [])
            if path[:-1] == _LAYER:
                name = layer.get("id", "")
                once("data of layer", name)
                layers[name] = replace(layers[name], attributes=attributes, constant=constant)
        elif path == _EDGE:
            once("edge to layer", attributes["to-layer"], "port", attributes["to-port"])
            origin = attributes["from-layer"], int(attributes["from-port"])
            layers[attributes["to-layer"]].inputs[int(attributes["to-port"])] = origin
        elif path[:2] == _RT_INFO and len(path) > 2:
            once(*path)
            rt_info[tuple(path[2:])] = attributes.get("value")
        elif tag == "attribute":
            noted.add(attributes.get("name", ""))

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
    except (expat.ExpatError, OSError, ValueError, KeyError) as error:
        raise ArtifactError("unreadable-ir", f"{xml.name}: {error}") from None
    return Ir(tuple(constants), rt_info, frozenset(noted), layers)


def _constant(layer: Mapping[str, str], data: Mapping[str, str]) -> Constant:
    lengths = data.get("shape", "").split(",")
    return Constant(
        name=layer.get("name", ""),
        type=data.get("element_type", ""),
        shape=tuple(int(length) for length in lengths if length.strip()),
        offset=int(data.get("offset", "0")),
        size=int(data.get("size", "0")),
    )


def lint_ir(ir: Ir, options: Mapping[str, Any]) -> list[Failure]:
    """Compare types, groups and nncf's metadata with the options of converter ``openvino``.

    Args:
        options: valid against `converters.openvino.options.Options`.
    """
    if "int4_matrices" in options:
        return [*_lint_parts(ir, options), *_lint_metadata(ir, options)]
    found = [*_lint_types(ir, options), *_lint_metadata(ir, options)]
    if _has_4_bits(options):
        found += [*_lint_groups(ir, options), *_lint_ratio(ir, options)]
    return found


def _has_4_bits(options: Mapping[str, Any]) -> bool:
    return options["weight_format"] in ("int4", "nf4")


def _primary(options: Mapping[str, Any]) -> str:
    if options["weight_format"] == "int4":
        return "i4" if options["symmetric"] else "u4"
    return {"fp16": "f16", "int8": "u8", "nf4": "nf4"}[options["weight_format"]]


def _backup(options: Mapping[str, Any]) -> str:
    return "i8" if options.get("backup_mode") == "int8_sym" else "u8"


def _lint_parts(ir: Ir, options: Mapping[str, Any]) -> Iterator[Failure]:
    """Compare each matrix with the form of its part; those of no part have INT8."""
    declared = {
        name: ("i4" if part["symmetric"] else "u4", part["group_size"])
        for part in options["int4_matrices"]
        for name in part["names"]
    }
    wrong = {name for name in declared if name not in ir.matrices}
    for name, matrix in ir.matrices.items():
        kind, size = declared.get(name, (_backup(options), None))
        has_zeros = kind == "i4" and name in ir.asymmetric
        if matrix.type != kind or has_zeros or (size and matrix.shape[-1] != size):
            wrong.add(name)
    if wrong:
        what = "matrices have not the form that the model's placement names"
        yield Failure("stored-types", f"{what}: {some(sorted(wrong))}")


def _lint_types(ir: Ir, options: Mapping[str, Any]) -> Iterator[Failure]:
    primary = at_ends = _primary(options)
    allowed = {primary}
    if _has_4_bits(options):
        backup = _backup(options)
        at_ends = primary if options.get("all_layers") else backup
        allowed |= {backup} if options["ratio"] < 1 else set()
    types = {name: matrix.type for name, matrix in ir.matrices.items()}
    asymmetric = sorted(ir.asymmetric) if primary == "i4" else []
    if asymmetric:
        why = "; the NPU's compiler aborts on them" if "npu" in options else ""
        what = f"INT4 weights with zero points (u4), symmetric ones (i4) are declared{why}"
        yield Failure("asymmetric-weights", f"{what}: {some(asymmetric)}")
    wrong = {name for name, kind in types.items() if name not in _ENDS and kind not in allowed}
    wrong |= {name for name in _ENDS if types.get(name, at_ends) != at_ends}
    wrong -= set(asymmetric)
    if wrong or not (asymmetric or primary in types.values()):
        counts = sorted(Counter(types.values()).items())
        stored = ", ".join(f"{count} {kind}" for kind, count in counts) or "none"
        what = f"weights are {primary} by the variant's options, stored are {stored}"
        yield Failure("stored-types", what + (f": {some(sorted(wrong))}" if wrong else ""))


def _lint_groups(ir: Ir, options: Mapping[str, Any]) -> Iterator[Failure]:
    size = options["group_size"]
    wrong = sorted(
        f"{name} {list(matrix.shape)}"
        for name, matrix in ir.matrices.items()
        if matrix.type in _4_BITS
        and (len(matrix.shape) != 2 if size == -1 else matrix.shape[-1:] != (size,))
    )
    if wrong:
        declared = "whole rows" if size == -1 else f"groups of {size}"
        yield Failure("group-size", f"{declared} are declared, stored are {some(wrong)}")


def _lint_ratio(ir: Ir, options: Mapping[str, Any]) -> Iterator[Failure]:
    """Compare 4 bits' share: nncf adds insensitive layers until one would pass the ratio."""
    counted = [
        matrix
        for name, matrix in ir.matrices.items()
        if options.get("all_layers") or name not in _ENDS
    ]
    sizes = [math.prod(matrix.shape) for matrix in counted]
    codes = sum(math.prod(matrix.shape) for matrix in counted if matrix.type in _4_BITS)
    total = max(sum(sizes), 1)
    share, step, ratio = codes / total, max(sizes, default=0) / total, options["ratio"]
    if not ratio - step <= share <= ratio + 1e-6:
        kind = options["weight_format"]
        have = f"{share:.3f} of the layers' weights are {kind.upper()}"
        yield Failure(f"{kind}-ratio", f"{have}, the declared ratio is {ratio}")


def _lint_metadata(ir: Ir, options: Mapping[str, Any]) -> Iterator[Failure]:
    expected: dict[str, str] = {}
    if options["weight_format"] == "int8" or "int4_matrices" in options:  # nncf's last call
        mode = options.get("backup_mode", "int8_asym")
        expected = {"mode": mode, "group_size": "-1", "ratio": "1.0"}
    elif _has_4_bits(options):
        int4 = "int4_sym" if options.get("symmetric") else "int4_asym"
        expected = {
            "mode": "nf4" if options["weight_format"] == "nf4" else int4,
            "group_size": str(options["group_size"]),
            "ratio": str(float(options["ratio"])),
        }
    metadata = ir.nncf_metadata
    found = {key: metadata.get(key, "nothing") for key in expected} if expected else metadata
    wrong = [
        f"{key} {found[key]}, not {expected.get(key, 'compressed at all')}"
        for key in found
        if found[key] != expected.get(key)
    ]
    if wrong:
        what = f"nncf's metadata in the IR (rt_info nncf/weight_compression) says {some(wrong)}"
        yield Failure("nncf-metadata", what)


def lint_runtime_options(ir: Ir, options: Mapping[str, Any]) -> list[Failure]:
    """Compare the options that an IR gives its device with what is to be there, as a closed list.

    A plugin takes each for a property that its user did not set. optimum gives every text model
    the scale of activations, and the precision of the cache where weights are not compressed
    (``_set_runtime_options`` of optimum.exporters.openvino.convert). A recipe's option
    ``runtime_options``, name to value, says what its converter sets besides.
    """
    expected = {"ACTIVATIONS_SCALE_FACTOR": "8.0"}
    if all(matrix.type == "f16" for matrix in ir.matrices.values()):
        expected["KV_CACHE_PRECISION"] = "f16"
    expected |= options.get("runtime_options", {})
    wanted = {f"{_RUNTIME_OPTIONS}/{name}": value for name, value in expected.items()}
    said = {"/".join(path): value for path, value in ir.rt_info.items() if path[0] not in _SECTIONS}
    said.pop(_RUNTIME_OPTIONS, None)
    wrong = [
        f"{name} {said.get(name, 'missing')}, not {wanted.get(name, 'there')}"
        for name in sorted(said.keys() | wanted.keys())
        if said.get(name) != wanted.get(name)
    ]
    wrong += [f"{name} at a layer" for name in sorted(ir.attributes - _ATTRIBUTES)]
    return [Failure("runtime-options", f"the IR's rt_info has {some(wrong)}")] if wrong else []


def lint_bytes(ir: Ir, weights: Path) -> list[Failure]:
    """Check that every matrix has the bytes of its type and shape, that the file has them, and
    that it has no others."""
    length = weights.stat().st_size if weights.is_file() else 0
    wrong = sorted(
        name
        for name, matrix in ir.matrices.items()
        if matrix.size != (math.prod(matrix.shape) * _BITS[matrix.type] + 7) // 8
        or matrix.offset + matrix.size > length
    )
    if not wrong:
        return lint_unknown_bytes([(one.offset, one.size) for one in ir.constants], weights)
    what = f"{weights.name} ({length} bytes) does not hold what the IR places there: {some(wrong)}"
    return [Failure("incomplete-weights", what)]
