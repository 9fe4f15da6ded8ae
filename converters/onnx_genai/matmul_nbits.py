"""A float graph becomes an INT4 one, matrix by matrix, while it is written.

The model builder hands its whole graph to onnxruntime's `MatMulNBitsQuantizer`, which copies it
several times. Here each MatMul passes through that same quantizer in a graph of its own, when its
bytes are wanted, so memory is that of the largest matrix; names, attributes, order and bytes are
those of the official result. Blocks lie along K and every column is quantized by itself, so a large
matrix goes in slabs of columns.
"""

import contextlib
import io
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from onnx import NodeProto, helper, numpy_helper
from onnxruntime.quantization import matmul_nbits_quantizer as official

from converters.onnx_genai.int4_rtn import quantize_symmetric

BITS = 4
LM_HEAD = "/lm_head/MatMul"
_SLAB_BYTES = 1 << 26

Arrays = dict[str, npt.NDArray[Any]]
"""The initializers of one MatMulNBits by name: codes, scales, and zero points if it has any."""


@dataclass(frozen=True)
class Int4Settings:
    """Arguments of `MatMulNBitsQuantizer`, in the model builder's words.

    Attributes:
        block_size: weights that share a scale, along K.
        is_symmetric: no zero points.
        algo_config: ``default`` (round to nearest in onnxruntime's C++), ``rtn`` or ``k_quant``.
        accuracy_level: the operator's attribute of that name; 0 leaves it out.
        matmul_mixed_precision: ``last_matmul:int8`` gives the LM head 8 bits; None: `BITS` for all.
    """

    block_size: int
    is_symmetric: bool
    algo_config: str
    accuracy_level: int
    matmul_mixed_precision: str | None = None

    def bits_of(self, node_name: str) -> int:
        """How many bits the codes of a MatMul have."""
        return 8 if self.matmul_mixed_precision and node_name == LM_HEAD else BITS


def quantize_graph(model: ir.Model, settings: Int4Settings) -> ir.Model:
    """Turn every MatMul with a constant matrix into a MatMulNBits whose bytes are made later.

    ``model`` is changed in place and returned.
    """
    for node in list(model.graph.all_nodes()):
        weight = node.inputs[1] if node.op_type == "MatMul" else None
        if weight is not None and weight.const_value is not None:
            _replace(node, weight, settings)
    return model


def _replace(node: ir.Node, weight: ir.Value, settings: Int4Settings) -> None:
    tensor = weight.const_value
    columns = tensor.shape[1]
    node_name = node.name
    # One column of any weights shows what the official result of this matrix looks like.
    one_column = np.linspace(-1, 1, tensor.shape[0], dtype=tensor.dtype.numpy())[:, None]
    pattern, shapes = _quantize_alone(node_name, tensor.name, one_column, settings)
    parts = _Parts(lambda: _quantize(node_name, tensor, tuple(shapes), settings))
    initializers = {
        name: _lazy_initializer(name, parts, array.dtype, (columns, *array.shape[1:]))
        for name, array in shapes.items()
    }
    node.op_type, node.domain, node.name = pattern.op_type, pattern.domain, pattern.name
    node.attributes.clear()
    for attribute in pattern.attribute:
        value = columns if attribute.name == "N" else attribute.i
        node.attributes.add(ir.AttrInt64(attribute.name, value))
    node.resize_inputs(len(pattern.input))
    for place, name in enumerate(pattern.input):
        if place > 0:
            node.replace_input_with(place, initializers[name])
    graph = weight.graph
    if not weight.uses():
        del graph.initializers[weight.name]
    for value in initializers.values():
        graph.register_initializer(value)


def _quantize(
    node_name: str, tensor: ir.TensorProtocol, names: Sequence[str], settings: Int4Settings
) -> Arrays:
    """Return the arrays ``names`` of a whole matrix."""
    weight = tensor.numpy()
    columns = max(1, _SLAB_BYTES // (weight.shape[0] * weight.itemsize))
    slabs = [
        _quantize_slab(node_name, tensor.name, names, _row_major(slab), settings)
        for slab in np.split(weight, range(columns, weight.shape[1], columns), axis=1)
    ]
    return {name: np.concatenate([slab[name] for slab in slabs]) for name in names}


def _quantize_slab(
    node_name: str,
    weight_name: str,
    names: Sequence[str],
    slab: npt.NDArray[Any],
    settings: Int4Settings,
) -> Arrays:
    size = settings.block_size
    if settings.algo_config != "default":
        return _quantize_alone(node_name, weight_name, slab, settings)[1]
    bits = settings.bits_of(node_name)
    if settings.is_symmetric and bits == BITS and slab.shape[0] % size == 0:
        return dict(zip(names, quantize_symmetric(slab, size), strict=True))
    # What `MatMulNBitsQuantizer` itself calls here, without a graph to copy the slab into.
    config = official.DefaultWeightOnlyQuantConfig(
        block_size=size, is_symmetric=settings.is_symmetric, bits=bits
    )
    arrays = official.DefaultWeightOnlyQuantizer(config).qbits_block_quant(slab)
    return dict(zip(names, arrays, strict=False))  # zero points are left out if symmetric


class _Parts:
    """The arrays of one matrix, made when the first is asked for and let go one by one."""

    def __init__(self, make: Callable[[], Arrays]) -> None:
        self._make = make
        self._left: Arrays = {}

    def take(self, name: str) -> npt.NDArray[Any]:
        if name not in self._left:
            self._left = self._make()
        return self._left.pop(name)


def _lazy_initializer(
    name: str, parts: _Parts, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> ir.Value:
    element = ir.DataType.from_numpy(dtype)
    tensor = ir.LazyTensor(
        lambda: ir.tensor(parts.take(name), name=name),
        dtype=element,
        shape=ir.Shape(shape),
        name=name,
    )
    return ir.Value(
        name=name, type=ir.TensorType(element), shape=ir.Shape(shape), const_value=tensor
    )


def _quantize_alone(
    node_name: str, weight_name: str, weight: npt.NDArray[Any], settings: Int4Settings
) -> tuple[NodeProto, Arrays]:
    """The official quantizer's node and initializers for one MatMul of a (K, N) matrix."""
    element = helper.np_dtype_to_tensor_dtype(weight.dtype)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", weight_name], ["y"], name=node_name)],
        "matrix",
        [helper.make_tensor_value_info("a", element, ["rows", weight.shape[0]])],
        [helper.make_tensor_value_info("y", element, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(weight, weight_name)],
    )
    opsets = [helper.make_opsetid("", 22), helper.make_opsetid("com.microsoft", 1)]
    quantizer = official.MatMulNBitsQuantizer(
        helper.make_model(graph, opset_imports=opsets, ir_version=10),
        bits=settings.bits_of(node_name),
        block_size=settings.block_size,
        is_symmetric=settings.is_symmetric,
        accuracy_level=settings.accuracy_level,
        algo_config=_algorithm(node_name, settings),
    )
    for name in (official.logger.name, "neural_compressor"):
        logging.getLogger(name).setLevel(logging.WARNING)  # else several lines a matrix
    with contextlib.redirect_stdout(io.StringIO()):  # rtn and k_quant print their progress
        quantizer.process()
    result = quantizer.model.model.graph
    (node,) = result.node
    return node, {
        tensor.name: numpy_helper.to_array(tensor).copy() for tensor in result.initializer
    }


def _row_major(matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The matrix in C order; torch transposes several times faster than numpy."""
    if matrix.flags.f_contiguous and matrix.flags.writeable:
        rows: npt.NDArray[Any] = torch.from_numpy(matrix).contiguous().numpy()
        return rows
    return np.ascontiguousarray(matrix)


def _algorithm(node_name: str, settings: Int4Settings) -> official.WeightOnlyQuantConfig | None:
    """The configuration that the model builder makes of ``algo_config``."""
    bits = {node_name: {"bits": settings.bits_of(node_name)}}
    if settings.algo_config == "rtn":
        return official.RTNWeightOnlyQuantConfig(customized_weight_config=bits)
    if settings.algo_config == "k_quant":
        return official.KQuantWeightOnlyQuantConfig(customized_weight_config=bits)
    return None
