"""Hold an ONNX graph to the form of a Phi-3, and to one meaning for each name."""

from collections import Counter
from collections.abc import Iterator, Mapping

from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from phiforge.receipts.receipt import Failure
from validators.contract import some
from validators.lint.architecture import OTHER_GRAPH, Architecture
from validators.lint.graph_form import Form, Step, lint_form, unread
from validators.lint.onnx_graph import attributes_of, graphs_of, initializers
from validators.lint.rope import rope_of

_SMALL = 64  # bytes of a constant that belongs to the form
_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "MatMul": (1,),
    "MatMulNBits": (1, 2, 3),
    "SimplifiedLayerNormalization": (1,),
    "SkipSimplifiedLayerNormalization": (2,),
}
"""Operator to its inputs that are held to the source by value."""
_LAYER = frozenset(
    {
        *_WEIGHTS, "GroupQueryAttention", "Mul", "RotaryEmbedding", "Sigmoid",
    }
)  # fmt: skip
_SHARED: Mapping[str, int] = {"Cast": 2, "Gather": 1, "ReduceSum": 1, "Shape": 1, "Sub": 1}
_LONGROPE: Mapping[str, int] = {
    "Add": 1, "Cast": 3, "Greater": 1, "GreaterOrEqual": 1, "If": 1, "Mul": 1, "ReduceMax": 1,
}  # fmt: skip


def lint_onnx_form(graph: ModelProto, architecture: Architecture) -> list[Failure]:
    """Compare a graph's operators and edges with those of a Phi-3.

    One that another reader could take otherwise than this one is refused.
    """
    if wrong := list(_ambiguous(graph)):
        return [Failure(OTHER_GRAPH, f"the graph can be read in two ways: {some(wrong)}")]
    tensors, nodes = initializers(graph), dict(enumerate(graph.graph.node))
    origin = {
        value: (f"node {number}", index)
        for number, node in nodes.items()
        for index, value in enumerate(node.output)
    }
    results = {one.name for one in graph.graph.output} - {"logits"}
    inputs = {one.name for one in graph.graph.input}
    steps = {name: Step[str]("Input", name, ()) for name in (*tensors, *inputs)}
    for number, node in nodes.items():
        steps[f"node {number}"] = _step(node, tensors, origin, results)
    lengths = _lint_lengths(list(nodes.values()))
    read = {name for node in nodes.values() for name in node.input} | results | {"logits"}
    idle = [node.name for node in nodes.values() if not read & set(node.output)]
    return unread(idle) + lengths + lint_form(steps, _form(architecture), architecture)


def _form(architecture: Architecture) -> Form:
    """The operators that the model builder writes; LongRoPE adds some that decide."""
    rope = rope_of(architecture)
    counted = {**_SHARED, **(_LONGROPE if rope is not None and rope.beyond is not None else {})}
    return Form(_LAYER, frozenset({"Constant", "Input", *counted}), counted, frozenset())


_LENGTHS = {
    5: "Cast to=6 (Sub (ReduceSum keepdims=0 (attention_mask, [1]), [1]))",
    6: "Cast to=6 (Gather axis=0 (Shape (attention_mask), 1))",
}
"""GroupQueryAttention's inputs that count tokens, as the model builder makes them."""


def _lint_lengths(nodes: list[NodeProto]) -> list[Failure]:
    """Check how the attentions' counts of tokens are made: a wrong one may show in a batch only."""
    made_by = {name: node for node in nodes for name in node.output}
    found = {
        _written(node.input[port], made_by)
        for node in nodes
        if node.op_type == "GroupQueryAttention"
        for port in _LENGTHS
    }
    wrong = sorted(found - set(_LENGTHS.values()))
    what = f"the attentions' lengths are made by {some(wrong)}"
    return [Failure(OTHER_GRAPH, what)] if wrong else []


def _written(name: str, made_by: Mapping[str, NodeProto]) -> str:
    node = made_by.get(name)
    if node is None:
        return name
    given = attributes_of(node)
    if node.op_type == "Constant":
        return str(numpy_helper.to_array(given["value"]))
    stated = "".join(f" {key}={value}" for key, value in sorted(given.items()))
    return f"{node.op_type}{stated} ({', '.join(_written(one, made_by) for one in node.input)})"


def _ambiguous(graph: ModelProto) -> Iterator[str]:
    """Name what another reader of the file may take for something else than this one."""
    parts = graphs_of(graph)
    names = Counter(
        name
        for part in parts
        for name in (
            *(one.name for one in part.initializer),
            *(one.name for one in part.input),
            *(value for node in part.node for value in node.output if value),
        )
    )
    yield from (f"{name} is made twice" for name, count in sorted(names.items()) if count > 1)
    if graph.functions:
        yield f"functions of its own: {some([one.name for one in graph.functions])}"
    if any(part.sparse_initializer for part in parts) or graph.training_info:
        yield "sparse initializers or a training graph"
    for node in (node for part in parts[1:] for node in part.node):
        if node.op_type != "Constant":
            yield f"{node.op_type} in a branch"


def _step(
    node: NodeProto,
    tensors: Mapping[str, TensorProto],
    origin: Mapping[str, tuple[str, int]],
    results: set[str],
) -> Step[str]:
    embeds = node.op_type == "Gather" and len(tensors.get(node.input[0], TensorProto()).dims) == 2
    left_out = (0,) if embeds else _WEIGHTS.get(node.op_type, ())
    multiplies = node.op_type in ("MatMul", "MatMulNBits")
    reads = {
        port: origin.get(name, (name, 0))
        for port, name in enumerate(node.input)
        if name and port not in left_out
    }
    # a product's attributes are those of its matrix; the branches are LongRoPE's tables
    given = {} if multiplies else attributes_of(node)
    label = {name: value for name, value in given.items() if not name.endswith("_branch")}
    if isinstance(value := label.get("value"), TensorProto):
        label["value"] = (list(value.dims), value.data_type, _bytes(value))
    gives = [name for name in node.output if name in results]
    return Step(
        node.op_type,
        f"{sorted(label.items())} {list(reads)} {gives}",
        tuple(reads.values()),
        embeds=embeds,
        multiplies=multiplies,
        sizes=node.op_type == "Shape",
    )


def _bytes(value: TensorProto) -> bytes:
    stored = value.SerializeToString(deterministic=True)
    return stored if len(stored) <= 2 * _SMALL else b""
