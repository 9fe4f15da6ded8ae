"""onnxruntime's own quantizer and ours, on what rounding is hard on: equal to the last bit."""

import mmap
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from onnxruntime.quantization import matmul_nbits_quantizer as official

from converters.onnx_genai import int4_rtn
from converters.onnx_genai.int4_rtn import quantize_symmetric

BLOCK_SIZES = (16, 32, 64, 128)
ROWS, COLUMNS = 512, 37

Weight = npt.NDArray[np.float16 | np.float32]
Type = type[np.float16] | type[np.float32]


def normal(rng: np.random.Generator, kind: Type) -> Weight:
    return rng.normal(size=(ROWS, COLUMNS)).astype(kind)


def columns_of_many_scales(rng: np.random.Generator, kind: Type) -> Weight:
    """In float16 the smallest columns are zeros of either sign."""
    scales = 10.0 ** rng.uniform(-8, 3, COLUMNS)
    scales[:2] = 1e-8, 1e3
    return (rng.normal(size=(ROWS, COLUMNS)) * scales).astype(kind)


def zeros_of_either_sign(rng: np.random.Generator, kind: Type) -> Weight:
    zeros = np.copysign(0, rng.normal(size=(ROWS, COLUMNS))).astype(kind)
    zeros[rng.integers(ROWS, size=4), rng.integers(COLUMNS, size=4)] = 1  # some blocks have more
    return zeros


def ties(rng: np.random.Generator, kind: Type) -> Weight:
    """Every block's scale is a power of two, so that half of its weights lie between two codes."""
    weight = rng.integers(-16, 17, size=(ROWS, COLUMNS)) / 16
    weight[::16] = rng.choice([-1, 1], size=weight[::16].shape)
    return weight.astype(kind)


def subnormals(rng: np.random.Generator, kind: Type) -> Weight:
    information = np.finfo(kind)
    largest = int(information.smallest_normal / information.smallest_subnormal)
    units = rng.integers(-largest, largest, size=(ROWS, COLUMNS), endpoint=True)
    units[:, ::4] %= 40  # their scales are a few units, or none
    # numpy multiplies float64 by float16's smallest number without loss, and by float32's too
    return (units * np.float64(information.smallest_subnormal)).astype(kind)


def every_finite_float16(rng: np.random.Generator, kind: Type) -> Weight:
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    rng.shuffle(finite)
    return finite.reshape(1024, -1).astype(kind)


def opposite_extremes(rng: np.random.Generator, kind: Type) -> Weight:
    """The largest magnitude of each block occurs with both signs, in either order."""
    weight = rng.uniform(-1, 1, size=(ROWS, COLUMNS))
    signs = rng.choice([-1, 1], size=weight[::16].shape)
    weight[3::16], weight[11::16] = 1.5 * signs, -1.5 * signs
    return weight.astype(kind)


@pytest.mark.parametrize("size", BLOCK_SIZES)
@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize(
    "weights",
    [
        normal,
        columns_of_many_scales,
        zeros_of_either_sign,
        ties,
        subnormals,
        every_finite_float16,
        opposite_extremes,
    ],
)
def test_codes_and_scales_are_those_of_onnxruntime(
    weights: Callable[[np.random.Generator, Type], Weight], kind: Type, size: int
) -> None:
    weight = weights(np.random.default_rng(size), kind)
    before = weight.tobytes()
    codes, scales = quantize_symmetric(weight, size)
    assert weight.tobytes() == before
    assert_official(codes, scales, weight, size)


def assert_official(
    codes: npt.NDArray[np.uint8], scales: Weight, weight: Weight, size: int
) -> None:
    config = official.DefaultWeightOnlyQuantConfig(block_size=size, is_symmetric=True, bits=4)
    quantizer = official.DefaultWeightOnlyQuantizer(config)
    expected_codes, expected_scales, _ = quantizer.qbits_block_quant(weight)
    assert (codes.shape, codes.dtype) == (expected_codes.shape, expected_codes.dtype)
    assert (scales.shape, scales.dtype) == (expected_scales.shape, expected_scales.dtype)
    # by bytes: equality of numbers does not tell -0.0 from 0.0
    assert scales.tobytes() == expected_scales.tobytes()
    assert codes.tobytes() == expected_codes.tobytes()


def test_the_zero_blocks_above_have_scales_of_either_sign() -> None:
    """So the comparison by bytes is not in vain."""
    _, scales = quantize_symmetric(zeros_of_either_sign(np.random.default_rng(0), np.float16), 32)
    assert set(np.signbit(scales[scales == 0]).tolist()) == {False, True}


@pytest.mark.parametrize("chunk", [1, 5 * 32 * COLUMNS])
def test_parts_of_any_size_make_the_same_whole(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    """A block of every column a part, and five, of which the last part has one only."""
    monkeypatch.setattr(int4_rtn, "_CHUNK", chunk)
    weight = normal(np.random.default_rng(0), np.float16)
    assert_official(*quantize_symmetric(weight, 32), weight, 32)


def test_a_slice_of_columns_is_taken_as_it_lies() -> None:
    whole = normal(np.random.default_rng(0), np.float32)
    part = whole[:, 3:20]
    assert_official(*quantize_symmetric(part, 32), np.ascontiguousarray(part), 32)


@pytest.mark.parametrize("mapped", [False, True])
@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_memory_that_may_only_be_read_is_taken_in_silence(
    tmp_path: Path, kind: Type, mapped: bool
) -> None:
    stored = normal(np.random.default_rng(0), kind)
    content: bytes | mmap.mmap = stored.tobytes()
    if mapped:
        (tmp_path / "weight").write_bytes(content)
        with (tmp_path / "weight").open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    weight = np.frombuffer(content, kind).reshape(stored.shape)
    torch.set_warn_always(True)  # by itself it warns once in a process, whoever asked
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            codes, scales = quantize_symmetric(weight, 32)
    finally:
        torch.set_warn_always(False)
    assert_official(codes, scales, stored, 32)


def test_torch_has_its_threads_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        quantize_symmetric(normal(np.random.default_rng(0), np.float16), 32)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
