"""Single operators in the forms that decoders have, each with what it means in float64."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Form:
    """One operator in one form.

    Attributes:
        form: what is particular about it.
        expected: output name to what the operator's specification gives, in float64.
        dtype: of the outputs.
    """

    operator: str
    form: str
    nodes: list[Any]
    inputs: dict[str, Array]
    expected: dict[str, Array]
    initializers: dict[str, Array] = field(default_factory=dict)
    dtype: Any = np.float16
    opset: int = 21
    judged: tuple[str, ...] = ()

    def model(self) -> ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "form",
            [_described(name, array.dtype, array.shape) for name, array in self.inputs.items()],
            [_described(name, self.dtype, array.shape) for name, array in self.expected.items()],
            [numpy_helper.from_array(array, name) for name, array in self.initializers.items()],
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _described(name: str, dtype: Any, shape: tuple[int, ...]) -> Any:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, shape)


def forms() -> Iterator[Form]:
    for bits in (4, 8):
        for block in (16, 32, 64, 128, 256):
            yield matmul(bits=bits, block=block)
            yield matmul(bits=bits, block=block, zero_points="uint8")
        yield matmul(bits=bits, zero_points="float16")
        yield matmul(bits=bits, bias=True)
        yield matmul(bits=bits, columns=272)
    yield matmul(group_indices=True)
    yield matmul(rows=1)
    for level in (1, 4):
        yield matmul(accuracy_level=level)
    yield attention()
    yield attention(heads=4, groups=4, head_size=96)
    yield attention(scale=0.03)
    yield attention(tokens=200, local_window_size=64)
    yield attention(tokens=1, past=199, local_window_size=64)
    yield attention(do_rotary=1)
    yield attention(do_rotary=1, rotated=16)
    yield attention(do_rotary=1, rotary_interleaved=1)
    yield attention(smooth_softmax=1)
    yield attention(softcap=1.0)
    yield attention(packed=True)
    yield attention(tokens=1, past=199)
    yield attention(tokens=8, past=64)
    yield attention(tokens=2300, heads=2, groups=2)
    yield attention(tokens=4300, heads=1, groups=1)
    for interleaved in (0, 1):
        yield rotation(interleaved=interleaved)
        yield rotation(interleaved=interleaved, rotated=16)
    yield rotation(head_size=96)
    for size in (1, 200, 300):
        yield norm(size)
        yield skip_norm(size)
    yield skip_norm(1, bias=True)
    yield cast(np.float32, np.float16)
    yield cast(np.float16, np.float32)
    for opset in range(17, 26):
        yield product_and_sum(opset)
        yield shapes(opset)


def matmul(
    *,
    bits: int = 4,
    block: int = 32,
    zero_points: str = "",
    bias: bool = False,
    group_indices: bool = False,
    columns: int = 512,
    rows: int = 4,
    accuracy_level: int | None = None,
) -> Form:
    random, n = np.random.default_rng(1), 64
    blocks = -(-columns // block)
    codes = random.integers(0, 2**bits, (n, blocks, block))
    scales = (random.random((n, blocks)) * 0.05 + 0.005).astype(np.float16)
    a = random.standard_normal((rows, columns)).astype(np.float16)
    zeros: Array = np.full((n, blocks), 2.0 ** (bits - 1))
    packed = codes[..., 0::2] | codes[..., 1::2] << 4 if bits == 4 else codes
    given: dict[str, Array] = {"b": packed.astype(np.uint8), "scales": scales.ravel()}
    names = ["a", "b", "scales", "", "", ""]
    if zero_points == "uint8":
        zeros = random.integers(0, 2**bits, (n, blocks + blocks % 2))
        stored = zeros[:, 0::2] | zeros[:, 1::2] << 4 if bits == 4 else zeros[:, :blocks]
        given["zeros"], zeros = stored.astype(np.uint8).ravel(), zeros[:, :blocks].astype(float)
    elif zero_points:
        given["zeros"] = (random.random((n, blocks)) * (2**bits - 1)).astype(np.float16)
        zeros = given["zeros"].astype(float)
    if group_indices:
        given["groups"] = (np.arange(columns) // block).astype(np.int32)
    weights = (codes - zeros[..., None]) * scales.astype(float)[..., None]
    y = a.astype(float) @ weights.reshape(n, -1)[:, :columns].T
    if bias:
        given["bias"] = random.standard_normal(n).astype(np.float16) * np.float16(2)
        y += given["bias"].astype(float)
    for place, name in ((3, "zeros"), (4, "groups"), (5, "bias")):
        names[place] = name if name in given else ""
    while not names[-1]:
        names.pop()
    attributes = {"K": columns, "N": n, "bits": bits, "block_size": block}
    what = f"{bits} bits, blocks of {block}"
    if accuracy_level is not None:
        attributes["accuracy_level"] = accuracy_level
        what += f", accuracy_level {accuracy_level}"
    what += f", {zero_points} zero points" if zero_points else ", symmetric"
    what += ", bias" * bias + ", g_idx" * group_indices
    what += f", K {columns}" * (columns != 512) + f", {rows} row" * (rows == 1)
    node = helper.make_node("MatMulNBits", names, ["y"], domain=MICROSOFT, **attributes)
    return Form("MatMulNBits", what, [node], {"a": a}, {"y": y}, given)


def attention(
    *,
    tokens: int = 128,
    past: int = 0,
    heads: int = 4,
    groups: int = 2,
    head_size: int = 32,
    rotated: int | None = None,
    packed: bool = False,
    **attributes: float,
) -> Form:
    random, total = np.random.default_rng(0), past + tokens

    def some(*shape: int) -> Array:
        return random.standard_normal(shape).astype(np.float16)

    q, k, v = (some(1, tokens, count * head_size) for count in (heads, groups, groups))
    past_k, past_v = some(1, groups, past, head_size), some(1, groups, past, head_size)
    q8, k8, v8 = (
        x.astype(float).reshape(tokens, -1, head_size).transpose(1, 0, 2) for x in (q, k, v)
    )
    given: dict[str, Array] = {}
    if attributes.get("do_rotary"):
        given = tables(total, rotated or head_size)
        interleaved = bool(attributes.get("rotary_interleaved"))
        places = np.arange(past, total)
        q8, k8 = (rotate(x, given, places, interleaved) for x in (q8, k8))
    k8 = np.concatenate([past_k[0].astype(float), k8], 1)
    v8 = np.concatenate([past_v[0].astype(float), v8], 1)
    here, there = np.arange(past, total)[:, None], np.arange(total)[None]
    seen = there <= here
    if window := attributes.get("local_window_size"):
        seen &= there > here - window
    y = np.empty((tokens, heads, head_size))
    for head in range(heads):
        group = head // (heads // groups)
        scores = q8[head] @ k8[group].T * attributes.get("scale", head_size**-0.5)
        if cap := attributes.get("softcap"):
            scores = cap * np.tanh(scores / cap)
        scores = np.where(seen, scores, -np.inf)
        most = scores.max(-1, keepdims=True)
        if attributes.get("smooth_softmax"):
            most = np.maximum(most, 0)
        weights = np.exp(scores - most)
        extra = np.exp(-most) if attributes.get("smooth_softmax") else 0
        y[:, head] = weights / (weights.sum(-1, keepdims=True) + extra) @ v8[group]
    inputs: dict[str, Array] = {"query": q, "key": k, "value": v}
    if packed:
        inputs = {"query": np.concatenate([q, k, v], -1)}
    inputs |= {"past_key": past_k, "past_value": past_v}
    inputs |= {"last": np.array([total - 1], np.int32), "total": np.array([total], np.int32)}
    names = ["query", *(["", ""] if packed else ["key", "value"])]
    names += ["past_key", "past_value", "last", "total", *given]
    node = helper.make_node(
        "GroupQueryAttention",
        names,
        ["y", "present_key", "present_value"],
        domain=MICROSOFT,
        num_heads=heads,
        kv_num_heads=groups,
        **attributes,
    )
    what = f"{heads} heads in {groups} groups of {head_size}, {tokens} tokens after {past}"
    what += ", packed" * packed + (f", {rotated} rotated" if rotated else "")
    what += "".join(f", {name} {value}" for name, value in attributes.items())
    expected = {
        "y": y.reshape(1, tokens, -1),
        "present_key": k8[None],
        "present_value": v8[None],
    }
    return Form("GroupQueryAttention", what, [node], inputs, expected, given, judged=("y",))


def tables(length: int, rotated: int) -> dict[str, Array]:
    angles = np.arange(length)[:, None] / 10000 ** (np.arange(0, rotated, 2) / rotated)
    return {"cos": np.cos(angles).astype(np.float16), "sin": np.sin(angles).astype(np.float16)}


def rotate(x: Array, table: dict[str, Array], places: Array, interleaved: bool) -> Array:
    """Rotate (heads, tokens, head size); what lies behind the table's width stays."""
    cos, sin = (table[name][places].astype(float) for name in ("cos", "sin"))
    half, y = cos.shape[-1], x.astype(float).copy()
    if interleaved:
        first, second = x[..., 0 : 2 * half : 2], x[..., 1 : 2 * half : 2]
        y[..., 0 : 2 * half : 2] = first * cos - second * sin
        y[..., 1 : 2 * half : 2] = second * cos + first * sin
    else:
        first, second = x[..., :half], x[..., half : 2 * half]
        y[..., :half] = first * cos - second * sin
        y[..., half : 2 * half] = second * cos + first * sin
    return y


def rotation(*, interleaved: int = 0, rotated: int = 0, head_size: int = 32) -> Form:
    random, heads, tokens = np.random.default_rng(2), 4, 16
    table = tables(64, rotated or head_size)
    x = random.standard_normal((1, heads, tokens, head_size)).astype(np.float16)
    places = np.arange(tokens)
    y = rotate(x[0], table, places, bool(interleaved))[None]
    attributes = {"rotary_embedding_dim": rotated, "num_heads": heads} if rotated else {}
    node = helper.make_node(
        "RotaryEmbedding", ["x", "places", "cos", "sin"], ["y"],
        domain=MICROSOFT, interleaved=interleaved, **attributes,
    )  # fmt: skip
    what = f"heads of {head_size}" + ", interleaved" * interleaved
    what += f", {rotated} rotated" if rotated else ""
    inputs = {"x": x, "places": places.reshape(1, -1)}
    return Form("RotaryEmbedding", what, [node], inputs, {"y": y}, table)


def norm(size: int) -> Form:
    x, w = _rows(size)
    node = helper.make_node(
        "SimplifiedLayerNormalization", ["x", "w"], ["y"], axis=-1, epsilon=1e-5
    )
    expected = {"y": _normed(x.astype(float), w)}
    what = f"values of about {size}"
    return Form("SimplifiedLayerNormalization", what, [node], {"x": x}, expected, {"w": w})


def skip_norm(size: int, bias: bool = False) -> Form:
    x, w = _rows(size)
    skip = np.flip(x, -1).copy() / np.float16(8)
    total, given = x.astype(float) + skip.astype(float), {"w": w}
    if bias:
        given["bias"] = np.random.default_rng(5).standard_normal(256).astype(np.float16)
        total = total + given["bias"].astype(float)
    node = helper.make_node(
        "SkipSimplifiedLayerNormalization", ["x", "skip", *given], ["y", "", "", "sum"],
        domain=MICROSOFT, epsilon=1e-5,
    )  # fmt: skip
    expected = {"y": _normed(total, w), "sum": total}
    what = f"values of about {size}" + ", bias" * bias
    inputs = {"x": x, "skip": skip}
    return Form("SkipSimplifiedLayerNormalization", what, [node], inputs, expected, given)


def _rows(size: int) -> tuple[Array, Array]:
    random = np.random.default_rng(3)
    x = (random.standard_normal((1, 8, 256)) * size).astype(np.float16)
    return x, random.standard_normal(256).astype(np.float16)


def _normed(x: Array, w: Array) -> Array:
    normed: Array = x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w.astype(float)
    return normed


def cast(source: Any, target: Any) -> Form:
    x = (np.random.default_rng(6).standard_normal((4, 64)) * 100).astype(source)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(target))
    node = helper.make_node("Cast", ["x"], ["y"], to=kind)
    what = f"{np.dtype(source).name} to {np.dtype(target).name}"
    expected = {"y": x.astype(target).astype(float)}
    return Form("Cast", what, [node], {"x": x}, expected, dtype=target)


def product_and_sum(opset: int) -> Form:
    random = np.random.default_rng(4)
    x, w = (random.standard_normal(s).astype(np.float16) for s in ((4, 64), (64, 32)))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Add", ["product", "product"], ["y"]),
    ]
    y = 2 * (x.astype(float) @ w.astype(float))
    return Form(f"opset {opset}", "MatMul, Add", nodes, {"x": x}, {"y": y}, {"w": w}, opset=opset)


def shapes(opset: int) -> Form:
    x = np.random.default_rng(4).standard_normal((4, 32)).astype(np.float16)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1]),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    y = x.astype(float).reshape(4, 2, 16).transpose(0, 2, 1)
    given = {"shape": np.array([4, 2, 16])}
    what = "Reshape, Transpose, Cast"
    return Form(f"opset {opset}", what, nodes, {"x": x}, {"y": y}, given, np.float32, opset)
