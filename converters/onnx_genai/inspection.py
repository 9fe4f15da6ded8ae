"""What a build must look like, whatever the tool that made it said."""

from pathlib import Path
from typing import Any

import onnx_ir as ir

from converters.contract import ConvertError
from converters.onnx_genai.matmul_nbits import BITS, Int4Settings
from converters.onnx_genai.model_builder import GENAI_CONFIG, GRAPH, PRODUCER_VERSION, WEIGHTS
from records.record import read_record

FLOAT_TYPES = {
    "cpu": ir.DataType.FLOAT,
    "cuda": ir.DataType.FLOAT16,
    "dml": ir.DataType.FLOAT16,
}
"""What the builder computes in, by execution provider."""


def check_payload(payload: Path, provider: str, settings: Int4Settings | None) -> None:
    """Hold a build against what was asked for.

    Args:
        payload: folder of the build.
        provider: the execution provider it is for.
        settings: of its INT4 matrices; None for a float build.

    Raises:
        ConvertError: naming the first thing that is not as it should be.
    """
    graph = ir.load(payload / GRAPH)
    _expect("producer_version", payload / GRAPH, PRODUCER_VERSION, graph.producer_version)
    _expect("provider", payload / GENAI_CONFIG, provider, _provider(payload))
    _check_weights(graph, payload, FLOAT_TYPES[provider])
    left = [node.name for node in _constant_matmuls(graph)]
    if settings is None:
        if not left:
            raise ConvertError("the graph has no MatMul", where=payload / GRAPH)
        return
    _expect("float matrices", payload / GRAPH, [], left)
    wanted = {"bits": BITS, "block_size": settings.block_size}
    if settings.accuracy_level:
        wanted["accuracy_level"] = settings.accuracy_level
    for node in graph.graph.all_nodes():
        if node.op_type == "MatMulNBits":
            found = {name: value.as_int() for name, value in node.attributes.items()}
            found = {name: found[name] for name in found if name not in ("K", "N")}
            _expect(f"attributes of '{node.name}'", payload / GRAPH, wanted, found)


def check_base(base: Path, provider: str) -> None:
    """The payload that an INT4 build is derived from must be the float build for ``provider``.

    Raises:
        ConvertError: it is another build.
    """
    found = _provider(base)
    graph = ir.load(base / GRAPH)
    if found != provider or any(n.op_type == "MatMulNBits" for n in graph.graph.all_nodes()):
        raise ConvertError(
            "the variant is derived from a build of another kind",
            where=base,
            expected=f"a float build for {provider}",
            found=f"a build for {found}",
            remedy="correct 'from' in config/variants.yaml",
        )


def _provider(payload: Path) -> str:
    decoder = read_record(payload / GENAI_CONFIG)["model"]["decoder"]
    providers = [name for one in decoder["session_options"]["provider_options"] for name in one]
    return ", ".join(providers) or "cpu"


def _check_weights(model: ir.Model, payload: Path, float_type: ir.DataType) -> None:
    end = 0
    for graph in model.graphs():
        for name, value in graph.initializers.items():
            tensor = value.const_value
            if not isinstance(tensor, ir.ExternalTensor) or tensor.location != WEIGHTS:
                _expect(f"place of '{name}'", payload / GRAPH, WEIGHTS, "elsewhere")
            if tensor.dtype not in (float_type, ir.DataType.UINT8):
                _expect(f"type of '{name}'", payload / GRAPH, float_type, tensor.dtype)
            end = max(end, tensor.offset + tensor.length)
    _expect("size", payload / WEIGHTS, end, (payload / WEIGHTS).stat().st_size)


def _constant_matmuls(model: ir.Model) -> list[ir.Node]:
    return [
        node
        for node in model.graph.all_nodes()
        if node.op_type == "MatMul"
        and node.inputs[1] is not None
        and node.inputs[1].const_value is not None
    ]


def _expect(what: str, where: Path, expected: Any, found: Any) -> None:
    if found != expected:
        raise ConvertError(
            f"{what} of the build is not what was asked for",
            where=where,
            expected=expected,
            found=found,
            remedy="this is a defect of the converter or of the model builder; report it",
        )
