"""Hold NF4 weights to the source: in sampled rows every scale, and every code under it.

A code stands for one of 16 levels between -1 and 1 (https://arxiv.org/abs/2305.14314, appendix E;
OpenVINO's ``src/core/src/type/nf4.cpp``), and the scale is the largest magnitude of the weights
that share it. So a code whose level is not the nearest to its weight is a mistake, and a scale
that is not that magnitude in float16. A check cannot see either: it has no source.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from converters.contract import ConvertError
from converters.openvino.source_weights import SourceTensor, as_float32, tensor_of
from phiforge.artifact.payload_files import OPENVINO_IR, OPENVINO_WEIGHTS
from validators.contract import some
from validators.lint.openvino_ir import Constant, read_ir

_ROWS = 64  # of a matrix; all of them would take as long as the conversion
_LEVELS = np.array(
    [
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    ]
)  # fmt: skip
_MIDDLES = (_LEVELS[1:] + _LEVELS[:-1]) / 2
_BETWEEN = np.concatenate([[-np.inf], _MIDDLES, [np.inf]])
_LEAST_SCALE = 2.0**-23  # nncf's, of rows of nothing but zeros
_FLOAT32 = 2.0**-22  # what nncf's float32 division may be off

Floats = npt.NDArray[np.float64]


def hold_to_source(payload: Path, weights: Mapping[str, SourceTensor], source: Path) -> None:
    """Compare sampled rows of every NF4 matrix of ``payload`` with the ``weights`` of ``source``.

    Raises:
        ConvertError: scales or codes are not those of the source, naming the matrices.
    """
    ir = read_ir(payload / OPENVINO_IR)
    constants = {one.name: one for one in ir.constants}
    data = np.memmap(payload / OPENVINO_WEIGHTS, dtype=np.uint8, mode="r")
    wrong: dict[str, list[str]] = {"scales": [], "codes": []}
    for name, matrix in ir.matrices.items():
        if matrix.type != "nf4":
            continue
        rows = np.unique(np.linspace(0, matrix.shape[0] - 1, _ROWS).astype(int))
        exact = as_float32(tensor_of(name, weights, source), rows).astype(np.float64)
        exact = exact.reshape(len(rows), *matrix.shape[1:])
        scales = _stored(data, constants[f"{matrix.name}/scale"]).view(np.float16)[rows]
        own = np.maximum(np.abs(exact).max(axis=-1, keepdims=True), _LEAST_SCALE)
        if not _are_scales(scales.reshape(own.shape).astype(np.float64), own):
            wrong["scales"].append(name)
        if not _are_codes(_unpack(_stored(data, matrix)[rows]).reshape(exact.shape), exact / own):
            wrong["codes"].append(name)
    for what, names in wrong.items():
        if names:
            raise ConvertError(
                f"NF4 {what} are not those of the source's weights: {some(sorted(names))}",
                where=payload / OPENVINO_IR,
                remedy="this is nncf's doing; do not ship the variant",
            )


def _stored(data: npt.NDArray[np.uint8], one: Constant) -> npt.NDArray[np.uint8]:
    """The bytes of a constant, one line a row."""
    return data[one.offset : one.offset + one.size].reshape(one.shape[0], -1)


def _unpack(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.stack([packed & 15, packed >> 4], axis=-1)


def _are_scales(stored: Floats, own: Floats) -> bool:
    """Whether each is float16's nearest to the largest magnitude (a NaN is not)."""
    step = np.maximum(own * 2.0**-11, 2.0**-25)
    return bool((np.abs(stored - own) <= step + own * _FLOAT32).all())


def _are_codes(codes: npt.NDArray[np.uint8], normalized: Floats) -> bool:
    """Whether each stands for the level nearest to its weight, as a share of the scale."""
    least, most = _BETWEEN[codes], _BETWEEN[codes + 1]
    return bool(((least - _FLOAT32 <= normalized) & (normalized <= most + _FLOAT32)).all())
