"""Edits of a payload's graph that leave every byte of its weights as it was."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from phiforge.artifact.payload_files import ONNX_GRAPH, OPENVINO_IR, OPENVINO_WEIGHTS
from support.broken import Edit, replaced

Start = tuple[str, str]
"""An edge of an IR as it is written, and its part that says where it begins."""


def in_the_graph(edit: Callable[[onnx.GraphProto], None]) -> Edit:
    def change(payload: Path) -> None:
        model = onnx.load(payload / ONNX_GRAPH, load_external_data=False)
        edit(model.graph)
        onnx.save(model, payload / ONNX_GRAPH)

    return change


def attention(**changes: Any) -> Edit:
    """Attributes of the last attention become others."""

    def edit(graph: onnx.GraphProto) -> None:
        node = [node for node in graph.node if node.op_type == "GroupQueryAttention"][-1]
        for entry in [one for one in node.attribute if one.name in changes]:
            node.attribute.remove(entry)
        node.attribute.extend(onnx.helper.make_attribute(*one) for one in changes.items())

    return in_the_graph(edit)


def read(name: str, port: int, value: str) -> Edit:
    """A node reads another value."""

    def edit(graph: onnx.GraphProto) -> None:
        next(node for node in graph.node if node.name == name).input[port] = value

    return in_the_graph(edit)


def before_the_logits(*nodes: onnx.NodeProto) -> Edit:
    """``nodes`` make the logits of what the LM head makes, which they call ``head``."""

    def edit(graph: onnx.GraphProto) -> None:
        graph.node[-1].output[0] = "head"
        graph.node.extend(nodes)

    return in_the_graph(edit)


def made(operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], name=output)


def number(name: str, value: Any) -> onnx.NodeProto:
    stored = onnx.numpy_helper.from_array(np.asarray(value))
    return onnx.helper.make_node("Constant", [], [name], name=name, value=stored)


def in_the_ir(edit: Callable[[str], str]) -> Edit:
    def change(payload: Path) -> None:
        path = payload / OPENVINO_IR
        before = path.read_text(encoding="utf-8")
        after = edit(before)
        assert after != before
        path.write_text(after, encoding="utf-8")

    return change


def operator(old: str, new: str) -> Edit:
    """All layers of one type of an IR become those of another."""
    return replaced(OPENVINO_IR, f'type="{old}"', f'type="{new}"')


def edge(text: str, name: str, port: int) -> Start:
    """The edge into a port of the layer ``name``."""
    [layer] = re.findall(rf'<layer id="(\d+)" name="{re.escape(name)}"', text)
    where = rf'(from-layer="\d+" from-port="\d+") to-layer="{layer}" to-port="{port}"'
    found = re.search(where, text)
    assert found
    return found[0], found[1]


def rewired(name: str, port: int, other: str, other_port: int) -> Edit:
    """A port of one layer of an IR reads what a port of another reads."""

    def edit(text: str) -> str:
        (whole, start), (_, wanted) = edge(text, name, port), edge(text, other, other_port)
        return text.replace(whole, whole.replace(start, wanted))

    return in_the_ir(edit)


def exchanged(name: str, other: str, port: int) -> Edit:
    """The same port of two layers of an IR reads what the other's read."""

    def edit(text: str) -> str:
        (one, start), (two, wanted) = edge(text, name, port), edge(text, other, port)
        text = text.replace(one, one.replace(start, wanted))
        return text.replace(two, two.replace(wanted, start))

    return in_the_ir(edit)


def twice(name: str, other: str, port: int) -> Edit:
    """A port of one layer of an IR has two edges, the first of them another layer's."""

    def edit(text: str) -> str:
        (whole, start), (_, wanted) = edge(text, name, port), edge(text, other, port)
        return text.replace(whole, f"{whole.replace(start, wanted)} /><edge {whole}")

    return in_the_ir(edit)


def stowaway(payload: Path) -> None:
    """Bytes behind an IR's constants."""
    with (payload / OPENVINO_WEIGHTS).open("ab") as stream:
        stream.write(b"MZ" * 99)
