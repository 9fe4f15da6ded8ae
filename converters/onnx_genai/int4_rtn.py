"""onnxruntime's symmetric INT4 blocks, many columns at a time.

Equal to the last bit to what `MatMulNBitsQuantizer` calls for its default algorithm,
``quantize_matmul_4bits`` (https://github.com/microsoft/onnxruntime,
onnxruntime/core/mlas/lib/q4_dq.cpp, `BlockwiseQuantizer::quantizeAndTranspose` and `range2scale`),
which takes one weight after the other. A block's scale is its weight of the largest magnitude, with
its sign, over -8, rounded to the graph's type; a code is ``round(weight / scale + 8)`` with halves
away from zero, cut to 0 … 15, where the division is a multiplication by the scale's float32
reciprocal and a scale of zero gives code 8. Zero has a sign: that of the block's first weight.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import torch

_MIDDLE = 8
_HIGHEST = 15
_CHUNK = 1 << 19  # elements; as float32 they and what is made of them stay in a cache


def quantize_symmetric(
    weight: npt.NDArray[np.float16 | np.float32], block_size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float16 | np.float32]]:
    """Codes and scales of a (K, N) matrix whose K is a multiple of ``block_size``.

    Returns:
        codes of shape (N, K / block_size, block_size / 2), two a byte, the first in the low half,
        and scales of shape (N, K / block_size) and the weight's type.
    """
    rows, columns = weight.shape
    if not weight.flags.writeable:
        weight = weight.copy()  # torch warns of such memory, though nothing is written there
    blocks = torch.from_numpy(weight).view(rows // block_size, block_size, columns)
    count = blocks.shape[0]
    codes = torch.empty(count, block_size // 2, columns, dtype=torch.uint8)
    scales = torch.empty(count, columns, dtype=blocks.dtype)
    step = max(1, _CHUNK // (block_size * columns))
    parts = [slice(first, first + step) for first in range(0, count, step)]
    with _one_torch_thread(), ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(lambda part: _quantize(blocks[part], codes[part], scales[part]), parts))
    by_column = codes.view(count * block_size // 2, columns).t().contiguous()
    return (
        by_column.view(columns, count, block_size // 2).numpy(),
        scales.t().contiguous().numpy(),
    )


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """Parts are too small to be shared among torch's threads, which would wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _quantize(blocks: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> None:
    values = blocks.float()
    if values is blocks:
        values = blocks.clone()  # what follows works in place
    lowest, highest = values.amin(dim=1), values.amax(dim=1)
    extreme = torch.where(highest.abs() > lowest.abs(), highest, lowest)
    extreme = torch.where(extreme == 0, values[:, 0], extreme)
    scales.copy_(extreme.div_(-_MIDDLE))
    wide = scales.float()
    reciprocal = torch.where(wide != 0, 1 / wide, 0.0)
    # the fraction is cut off by the cast: all are positive, and halves go up
    values.mul_(reciprocal.unsqueeze(1)).add_(_MIDDLE).add_(0.5).clamp_(0, _HIGHEST + 0.5)
    whole = values.to(torch.uint8)
    torch.bitwise_or(whole[:, 0::2], whole[:, 1::2].bitwise_left_shift(4), out=codes)
