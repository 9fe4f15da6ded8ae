"""Weights that were rounded honestly pass, by recipes that no variant has and in near-zero rows."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from converters.onnx_genai import convert as convert_onnx
from converters.openvino import convert as convert_openvino
from support.checkout import Checkout
from support.openvino_builds import near_zero_rows
from support.parity import changed_model
from validators.lint.payload import lint
from validators.reference_tree import load_reference

FP16 = {"weight_format": "fp16"}
INT4 = {"weight_format": "int4", "symmetric": True, "group_size": 128, "ratio": 1.0}
ASYMMETRIC = {**INT4, "symmetric": False, "group_size": 64}
NF4 = {"weight_format": "nf4", "ratio": 1.0, "all_layers": True}
DML = {"precision": "int4", "execution_provider": "dml"}
HEAD = {"matmul_mixed_precision": "last_matmul:int8"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_model(tmp_path_factory.mktemp("source"), near_zero_rows)


@pytest.fixture(scope="module")
def fp16(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    into = tmp_path_factory.mktemp("fp16")
    convert_openvino(source, into, options=FP16)
    return into


@pytest.fixture(scope="module")
def held(source: Path, pipeline: Checkout) -> Callable[..., dict[str, str]]:
    """What the lint finds in a payload: names to what they say."""
    reference = load_reference(pipeline.folder / "artifacts/reference/phi3-tiny")

    def held(payload: Path, kind: str, options: dict[str, Any]) -> dict[str, str]:
        shutil.copyfile(source / "LICENSE", payload / "LICENSE")
        variant = {"format": kind, "options": options}
        found = lint(payload, variant=variant, reference=reference, source=source)
        return {failure.name: failure.what for failure in found}

    return held


@pytest.mark.parametrize(
    "options",
    [
        {"weight_format": "int8"},
        {**ASYMMETRIC, "backup_mode": "int8_sym"},
        {**ASYMMETRIC, "awq": True},
        {**NF4, "group_size": 64},
    ],
)
def test_openvino_recipes_pass(
    source: Path, fp16: Path, tmp_path: Path, held: Callable[..., dict[str, str]], options: Any
) -> None:
    assert held(fp16, "openvino", FP16) == {}
    convert_openvino(source, tmp_path, options=options, base=fp16)
    assert held(tmp_path, "openvino", options) == {}


@pytest.mark.parametrize(
    "options",
    [
        DML,
        {**DML, **HEAD, "is_symmetric": False, "block_size": 64},
        {**DML, "algo_config": "k_quant"},
        {**DML, "algo_config": "rtn"},
        {**DML, **HEAD, "execution_provider": "cpu"},
    ],
)
def test_onnx_recipes_pass(
    source: Path, tmp_path: Path, held: Callable[..., dict[str, str]], options: Any
) -> None:
    convert_onnx(source, tmp_path, options=options)
    assert held(tmp_path, "onnx-genai", options) == {}


def test_weights_of_another_source_are_none_of_this_one(
    fp16: Path, tmp_path: Path, held: Callable[..., dict[str, str]]
) -> None:
    shutil.copytree(fp16, tmp_path / "payload")
    weights = tmp_path / "payload/openvino_model.bin"
    data = bytearray(weights.read_bytes())
    data[5000] ^= 1
    weights.write_bytes(data)
    assert held(tmp_path / "payload", "openvino", FP16) == {
        "other-embedding": "1 weights of the embedding are not the source's: model.embed_tokens"
    }
