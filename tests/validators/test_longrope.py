"""LongRoPE: its two tables and its switch by formula, and an answer beyond the switch."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from converters import onnx_genai, openvino
from phiforge.artifact.manifest import write_manifest
from support.bench import Bench, copied, make_bench, reseal
from support.jobs import SETTINGS
from support.parity import changed_model
from validators.lint.payload import lint
from validators.reference_tree import load_reference

SWITCH, LENGTH = 128, 160
OV, DML, CPU = "openvino-fp16", "genai-dml-fp16", "genai-cpu-int4"
TURN = (
    "<|user|>What is the capital of Japan?<|end|><|assistant|>The capital of Japan is Tokyo.<|end|>"
)


def longrope(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    config |= {
        "max_position_embeddings": LENGTH,
        "original_max_position_embeddings": SWITCH,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0] * 32,
            "long_factor": [1.0 + 0.002 * place for place in range(32)],
        },
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_model(tmp_path_factory.mktemp("longrope") / "source", longrope, layers=None)


@pytest.fixture(scope="module")
def payloads(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {name: tmp_path_factory.mktemp(name) for name in (OV, DML, CPU)}
    for name, folder in made.items():
        converter = openvino if name == OV else onnx_genai
        converter.convert(source, folder, options=SETTINGS.variants[name].options)
        shutil.copyfile(source / "LICENSE", folder / "LICENSE")  # as rule convert does
        write_manifest(folder, {})
    return made


@pytest.fixture(scope="module")
def long_bench(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Prompts before the switch, and one beyond it."""
    beyond = {
        "id": "beyond-the-switch",
        "text": TURN * 7 + "<|user|>What is the capital of France?<|end|><|assistant|>",
        "max_new_tokens": 16,
    }
    return make_bench(tmp_path_factory.mktemp("bench"), source, beyond)


@pytest.mark.parametrize(("variant", "row"), [(OV, "cpu"), (DML, "dml-standin"), (CPU, "cpu")])
def test_answers_beyond_the_switch_are_the_references(
    long_bench: Bench, payloads: dict[str, Path], tmp_path: Path, variant: str, row: str
) -> None:
    receipt = long_bench.receipt(variant, row, copied(payloads[variant], tmp_path))
    assert receipt["verdict"] == "passed", receipt["failures"]
    assert receipt["validated_tokens"] > SWITCH


Edit = Callable[[Path], None]


def constant(name: str, place: int, value: float) -> Edit:
    """One value of an IR's constant becomes another."""

    def edit(payload: Path) -> None:
        from validators.lint.openvino_ir import read_ir

        layers = read_ir(payload / "openvino_model.xml").layers.values()
        stored = next(one.constant for one in layers if one.constant and one.name.endswith(name))
        data = np.memmap(payload / "openvino_model.bin", dtype=np.uint8, mode="r+")
        width = {"f32": np.float32, "i64": np.int64}[stored.type]
        data[stored.offset : stored.offset + stored.size].view(width)[place] = value

    return edit


def initializer(name: str, change: Callable[[np.ndarray[Any, Any]], None]) -> Edit:
    def edit(payload: Path) -> None:
        graph = onnx.load(payload / "model.onnx", load_external_data=False)
        entry = next(one for one in graph.graph.initializer if one.name == name)
        at = {one.key: one.value for one in entry.external_data}
        data = np.memmap(payload / "model.onnx.data", dtype=np.uint8, mode="r+")
        begin, size = int(at["offset"]), int(at["length"])
        change(data[begin : begin + size].view(np.float16).reshape(tuple(entry.dims)))

    return edit


def node(output: str, change: Callable[[onnx.NodeProto], None]) -> Edit:
    def edit(payload: Path) -> None:
        graph = onnx.load(payload / "model.onnx", load_external_data=False)
        change(next(one for one in graph.graph.node if output in one.output))
        onnx.save(graph, payload / "model.onnx")

    return edit


def other_number(one: onnx.NodeProto) -> None:
    one.attribute[0].t.CopyFrom(numpy_helper.from_array(np.array(SWITCH + 1, np.int64)))


def swap_branches(one: onnx.NodeProto) -> None:
    first, second = one.attribute
    first.name, second.name = second.name, first.name


def beyond(rows: np.ndarray[Any, Any]) -> None:
    rows[-1] = rows[-2]


NUMBER = f"/model/constants/INT64/{SWITCH}"


@pytest.mark.parametrize(
    ("variant", "edit"),
    [
        (OV, constant("rotary_emb/aten::to/Convert", 7, 1.02)),
        (OV, constant("rotary_emb/aten::to/Convert_1", 7, 1.001)),
        (OV, constant("rotary_emb/aten::pow/Power", 3, 0.5)),
        (DML, initializer("cos_cache", beyond)),
        (DML, node(NUMBER, other_number)),
        (CPU, node(NUMBER, other_number)),
        (CPU, node("cos_cache", swap_branches)),
    ],
    ids=["long", "short", "powers", "cache", "DirectML's switch", "switch", "branches"],
)
def test_another_table_or_switch_is_named_before_it_runs(
    source: Path,
    long_bench: Bench,
    payloads: dict[str, Path],
    tmp_path: Path,
    variant: str,
    edit: Edit,
) -> None:
    def failures(payload: Path) -> set[str]:
        options = SETTINGS.variants[variant]
        recipe = {"format": options.format, "options": options.options}
        found = lint(
            payload, variant=recipe, reference=load_reference(long_bench.reference), source=source
        )
        return {failure.name for failure in found}

    assert failures(payloads[variant]) == set()
    payload = copied(payloads[variant], tmp_path) / "payload"
    edit(payload)
    reseal(payload)
    assert failures(payload) == {"other-rope"}


def test_the_factors_are_read_where_either_transformers_writes_them(source: Path) -> None:
    from validators.lint.architecture import Architecture
    from validators.lint.rope import rope_of

    config = json.loads((source / "config.json").read_text())
    newer = {
        key: value for key, value in config.items() if key not in ("rope_scaling", "rope_theta")
    }
    newer["rope_parameters"] = {
        **config["rope_scaling"], "rope_theta": config["rope_theta"], "rope_type": "longrope",
    }  # fmt: skip
    older, other = rope_of(Architecture(config)), rope_of(Architecture(newer))
    assert older is not None and older.beyond is not None and older.magnitude > 1
    assert other is not None and other.beyond is not None
    assert (older.switch, older.magnitude) == (other.switch, other.magnitude)
    assert (older.beyond == other.beyond).all()
