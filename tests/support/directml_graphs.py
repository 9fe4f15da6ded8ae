"""Edits of a DirectML build's graph that change nothing of what it means."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from phiforge.artifact.payload_files import GENAI_CONFIG, ONNX_GRAPH
from support.bench import reseal


def edited(payload: Path, edit: Callable[[ModelProto], None], graph_capture: bool = True) -> None:
    """Edit a payload's graph in place; its weights stay where they are."""
    graph = onnx.load(str(payload / ONNX_GRAPH), load_external_data=False)
    edit(graph)
    (payload / ONNX_GRAPH).write_bytes(graph.SerializeToString())
    if not graph_capture:
        config = payload / GENAI_CONFIG
        text = config.read_text(encoding="utf-8")
        assert '"enable_graph_capture": "1"' in text
        text = text.replace('"enable_graph_capture": "1"', '"enable_graph_capture": "0"')
        config.write_text(text, encoding="utf-8")
    reseal(payload)


def float16_zero_points(model: ModelProto) -> None:
    """Write out, as float16, the zero point 8 that symmetric 4 bits have anyway."""
    for node, rows, blocks in _products(model.graph):
        eights = np.full((rows, blocks), 8, dtype=np.float16)
        _give(model.graph, node, 3, eights)


def group_indices(model: ModelProto) -> None:
    """Write out which block each column belongs to: the one that it is in."""
    for node, _, blocks in _products(model.graph):
        _give(
            model.graph,
            node,
            4,
            np.repeat(np.arange(blocks, dtype=np.int32), _value(node, "block_size")),
        )


def rotary_in_attention(model: ModelProto) -> None:
    """Let the attention rotate queries and keys, as in builds for the CPU."""
    producers = {node.output[0]: node for node in model.graph.node}
    for node in [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]:
        inputs = [*node.input, *[""] * (9 - len(node.input))]
        for place in (0, 1):
            rotation = producers[inputs[place]]
            assert rotation.op_type == "RotaryEmbedding"
            inputs[place] = rotation.input[0]
            inputs[7:9] = rotation.input[2:4]
            model.graph.node.remove(rotation)
        node.ClearField("input")
        node.input.extend(inputs)
        for attribute in node.attribute:
            if attribute.name == "do_rotary":
                attribute.i = 1


def newer_opset(model: ModelProto) -> None:
    """Ask for an opset that onnxruntime has and its DirectML provider has not."""
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = 23


def double_product(model: ModelProto) -> None:
    """Multiply the logits by one, in float64, which DirectML does not multiply in."""
    graph = model.graph
    [logits] = [output for output in graph.output if output.name == "logits"]
    vocabulary = logits.type.tensor_type.shape.dim[2].dim_value
    for node in graph.node:
        node.output[:] = ["single" if name == "logits" else name for name in node.output]
    unity = numpy_helper.from_array(np.ones((1, 1), dtype=np.float64), "unity")
    column = numpy_helper.from_array(np.array([0, -1, vocabulary, 1], dtype=np.int64), "column")
    row = numpy_helper.from_array(np.array([0, -1, vocabulary], dtype=np.int64), "row")
    graph.initializer.extend([unity, column, row])
    kind = logits.type.tensor_type.elem_type
    graph.node.extend(
        [
            helper.make_node("Cast", ["single"], ["double"], to=TensorProto.DOUBLE),
            helper.make_node("Reshape", ["double", "column"], ["as column"]),
            helper.make_node("MatMul", ["as column", "unity"], ["product"]),
            helper.make_node("Reshape", ["product", "row"], ["as row"]),
            helper.make_node("Cast", ["as row"], ["logits"], to=kind),
        ]
    )


def _products(graph: GraphProto) -> Iterator[tuple[NodeProto, int, int]]:
    """Each MatMulNBits with its rows and its blocks a row."""
    for node in [node for node in graph.node if node.op_type == "MatMulNBits"]:
        yield node, _value(node, "N"), _value(node, "K") // _value(node, "block_size")


def _value(node: NodeProto, name: str) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == name)


def _give(graph: GraphProto, node: NodeProto, place: int, values: np.ndarray) -> None:  # type: ignore[type-arg]
    name = f"{node.name}.{place}"
    graph.initializer.append(numpy_helper.from_array(values, name))
    node.input.extend([""] * (place - len(node.input)))
    node.input.append(name)
