"""Find the weights of a payload of Intel's NPU library: tensors by their modules' names.

There is no graph; the loading code gives each tensor to the module of its name. A matrix is
neural-compressor's: rows rounded symmetrically (``qdq_weight_sym``). Its scales are multiplied by
the root of the columns' count (``intel_npu_acceleration_library/nn/linear.py``), by which the
library divides what it multiplies them with.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from phiforge.receipts.receipt import Failure
from phiforge.sources.weights import SourceTensor, as_float32
from validators.contract import ArtifactError, some
from validators.lint.architecture import EMBEDDING, NORM, OTHER_GRAPH, Architecture, Part
from validators.lint.weights import Codes, Scheme, Stored

SCHEMES: Mapping[str, Scheme] = {
    "I8": Scheme(-127, 127, steps=127, dead_scale=1 / 127, roundings=2),
    "U8": Scheme(-7, 7, steps=7, dead_scale=1 / 7, roundings=2),
}
"""By the type of the codes: 8 bits, and 4 bits two a byte."""
_TAKEN_APART = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")


def find_weights(
    tensors: Mapping[str, SourceTensor], architecture: Architecture
) -> tuple[list[Stored], list[Failure]]:
    """Describe every tensor of a payload, and name those that the model does not have, or lacks.

    Raises:
        ArtifactError: ``other-graph``: a tensor of another shape.
    """
    stored, known = [], set()
    for place, part in architecture.parts.items():
        if place.kind in _TAKEN_APART or part.tensor not in tensors:
            continue
        failure = {EMBEDDING: "other-embedding", NORM: "other-norms"}.get(place.kind)
        scale = part.tensor.removesuffix("weight") + "scale"
        known |= {part.tensor, scale} & tensors.keys()
        one = _stored(
            part,
            tensors[part.tensor],
            tensors.get(scale),
            architecture.columns(place),
            failure or "other-weights",
        )
        stored.append(one)
    wanted = {part.tensor for part in architecture.parts.values()}
    different = sorted((known ^ tensors.keys()) | (wanted - tensors.keys()))
    if different:
        what = f"tensors and the model's differ in {some(different)}"
        return stored, [Failure(OTHER_GRAPH, what)]
    return stored, []


def _stored(
    part: Part, tensor: SourceTensor, scale: SourceTensor | None, columns: int, failure: str
) -> Stored:
    width = columns // 2 if tensor.dtype == "U8" else columns
    if tensor.data.size != part.rows * width:
        what = f"{part.name} has shape {list(tensor.data.shape)}, not {[part.rows, columns]}"
        raise ArtifactError(OTHER_GRAPH, what)
    rows = SourceTensor(tensor.dtype, tensor.data.reshape(part.rows, width))
    if (scale is None) == (tensor.dtype in SCHEMES):
        raise ArtifactError(OTHER_GRAPH, f"{part.name} is {tensor.dtype}, its scales do not fit")
    if scale is None:
        return Stored(part, columns, lambda chosen: _floats(rows, chosen), failure=failure)
    scales = as_float32(scale, slice(None)).astype(np.float64) / math.sqrt(columns)
    scales = scales.reshape(part.rows, 1, 1)

    four_bits = rows.dtype == "U8"

    def read(chosen: slice) -> Codes:
        return Codes(rows.data[chosen], scales[chosen], four_bits=four_bits, signed=four_bits)

    return Stored(part, columns, read, SCHEMES[tensor.dtype], failure=failure)


def _floats(tensor: SourceTensor, rows: slice) -> npt.NDArray[Any]:
    """Some rows; bfloat16 as the float32 that it is."""
    return as_float32(tensor, rows) if tensor.dtype == "BF16" else tensor.data[rows]
