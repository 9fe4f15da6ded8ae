"""The ONNX Runtime GenAI converter against the official model builder, the source and a runtime."""

import filecmp
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime_genai as og
import pytest
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import (
    KQuantWeightOnlyQuantConfig,
    RTNWeightOnlyQuantConfig,
)

from converters.contract import ConvertError
from converters.onnx_genai import matmul_nbits
from converters.source_files import refuse_other_source
from support.onnx_genai_builds import (
    built,
    log_probabilities,
    official,
    open_on_cpu,
    quantized_at_once,
    twin_of_the_head,
    work_tree,
)
from support.parity import (
    Change,
    changed_model,
    enormous,
    mean_kl,
    reference,
    unchanged,
)

DML_FP16 = {"precision": "fp16", "execution_provider": "dml"}
CUDA_FP16 = {"precision": "fp16", "execution_provider": "cuda"}
INT4 = {
    "dml": {"precision": "int4", "execution_provider": "dml"},
    "cuda": {"precision": "int4", "execution_provider": "cuda"},
    "cpu": {"precision": "int4", "execution_provider": "cpu", "accuracy_level": 4},
    "webgpu": {"precision": "int4", "execution_provider": "webgpu", "accuracy_level": 4},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_model(tmp_path_factory.mktemp("small") / "source", unchanged)


@pytest.mark.parametrize("head", [{}, {"matmul_mixed_precision": "last_matmul:int8"}])
def test_the_int4_build_is_the_model_builder_s_byte_for_byte(
    small: Path, tmp_path: Path, head: dict[str, str]
) -> None:
    """All but one field: the builder's command says the commit of whatever git finds."""
    options = {**INT4["dml"], **head}
    base = built(small, tmp_path / "fp16", DML_FP16)
    ours = built(small, tmp_path / "int4", options, base)
    commit = work_tree(tmp_path / "work tree")
    git = str(tmp_path / "work tree/.git")
    theirs = official(small, tmp_path / "official", options, GIT_DIR=git)
    for name in ("model.onnx.data", "genai_config.json"):
        assert filecmp.cmp(theirs / name, ours.folder / name, shallow=False)
    their_graph, our_graph = (
        onnx.load(one / "model.onnx", load_external_data=False) for one in (theirs, ours.folder)
    )
    assert their_graph.producer_version == f"{og.__version__}+{commit[:7]}"
    assert our_graph.producer_version == f"{og.__version__}+{og.__commit__[:7]}"
    their_graph.producer_version = our_graph.producer_version
    assert their_graph.SerializeToString() == our_graph.SerializeToString()
    assert ours.record.recipe["quantization"]["block_size"] == 32


@pytest.mark.parametrize("provider", ["cpu", "cuda", "webgpu"])
def test_other_int4_builds_are_the_model_builder_s_but_for_the_window(
    small: Path, tmp_path: Path, provider: str
) -> None:
    ours = built(small, tmp_path / "ours", INT4[provider])
    theirs = official(small, tmp_path / "official", INT4[provider])
    assert filecmp.cmp(theirs / "model.onnx.data", ours.folder / "model.onnx.data", shallow=False)
    their_graph, our_graph = (
        onnx.load(one / "model.onnx", load_external_data=False).graph
        for one in (theirs, ours.folder)
    )
    assert their_graph.initializer == our_graph.initializer
    for their_node, our_node in zip(their_graph.node, our_graph.node, strict=True):
        for attribute in our_node.attribute:
            if attribute.name == "local_window_size":
                assert attribute.i == 2047
                attribute.i = -1
        assert their_node == our_node
    our_config, their_config = (
        json.loads((one / "genai_config.json").read_text()) for one in (ours.folder, theirs)
    )
    if provider != "webgpu":  # whose cache always holds everything
        their_window = their_config["model"]["decoder"].pop("sliding_window")
        assert (their_window["window_size"], their_window["layers"]) == (2047, [])
    assert our_config == their_config
    for length in (40, 2200):
        log_probabilities(ours.folder, np.arange(3, 3 + length, dtype=np.int32) % 1000)
    if provider == "cpu":
        with pytest.raises(Exception, match="total_sequence_length"):
            log_probabilities(theirs, np.arange(3, 2203, dtype=np.int32) % 1000)


def test_attention_reaches_back_as_the_source_s_does_or_the_notes_say_so(
    small: Path, tmp_path: Path
) -> None:
    tokens = np.random.default_rng(0).integers(3, 1400, 2600).astype(np.int32)
    windowed = reference(small, tokens, sliding_window=2047)
    full = reference(small, tokens, sliding_window=None)
    cuda = built(small, tmp_path / "cuda", CUDA_FP16)
    dml = built(small, tmp_path / "dml", DML_FP16)
    beyond = slice(2047, None)
    effect = mean_kl(windowed[beyond], full[beyond])
    on_cuda, on_dml = log_probabilities(cuda.folder, tokens), log_probabilities(dml.folder, tokens)
    assert mean_kl(windowed[:2047], on_dml[:2047]) < effect / 10
    assert mean_kl(windowed, on_cuda) < effect / 10
    assert mean_kl(full[beyond], on_dml[beyond]) < effect / 10
    assert any("DirectML kernel has no sliding window" in note for note in dml.record.notes)
    assert any("the last 2047 tokens, as the source's" in note for note in cuda.record.notes)


def near_zero_rows(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Rows of weights around and below float16's smallest numbers, and one of zeros."""
    for name, size in (("self_attn.qkv_proj", 2**-12), ("mlp.gate_up_proj", 2**-14)):
        for layer in range(2):
            tensors[f"model.layers.{layer}.{name}.weight"][::7] *= size
    tensors["model.layers.0.mlp.down_proj.weight"][:64] *= 2**-20
    tensors["lm_head.weight"][100:132] *= 2**-16
    tensors["lm_head.weight"][132] = 0


def widened(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in tensors.items():
        noise = torch.rand(tensor.shape, generator=generator) * 2**-9
        tensors[name] = tensor.float() * (1 + noise)
    config["torch_dtype"] = "float32"


@pytest.mark.parametrize(
    ("change", "options", "algorithm"),
    [
        (unchanged, {"algo_config": "rtn", "block_size": 64}, RTNWeightOnlyQuantConfig()),
        (unchanged, {"algo_config": "k_quant"}, KQuantWeightOnlyQuantConfig()),
        (unchanged, {"is_symmetric": False, "block_size": 128}, None),
        (near_zero_rows, {}, None),
        (widened, {}, None),
    ],
)
def test_other_recipes_and_sources_give_the_official_quantizer_s_weights(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Change,
    options: dict[str, Any],
    algorithm: Any,
) -> None:
    """Also when a matrix goes in slabs of a few columns, as large ones do."""
    monkeypatch.setattr(matmul_nbits, "_SLAB_BYTES", 1 << 14)
    source = changed_model(tmp_path / "source", change)
    base = built(source, tmp_path / "fp16", DML_FP16)
    ours = built(source, tmp_path / "int4", {**INT4["dml"], **options}, base)
    settings = {key: options[key] for key in ("is_symmetric", "block_size") if key in options}
    theirs = quantized_at_once(base.folder, algorithm, **settings)
    mine = ours.weights()
    assert mine.keys() == theirs.keys()
    for name in mine:
        np.testing.assert_array_equal(mine[name], theirs[name])
    open_on_cpu(ours.folder)


def test_two_builds_are_the_same_bytes_and_name_no_place_or_checkout(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In different folders, from different folders, with git finding different commits."""
    made = []
    for place in ("one", "another/place with a space"):
        folder = tmp_path / place
        head = work_tree(folder / "work tree")
        monkeypatch.setenv("GIT_DIR", str(folder / "work tree/.git"))
        monkeypatch.chdir(folder / "work tree")
        source = changed_model(folder / "source", unchanged)
        base = built(source, folder / "fp16", DML_FP16)
        made.append((base, built(source, folder / "cpu", INT4["cpu"])))
        assert os.environ["GIT_DIR"] == str(folder / "work tree/.git")
        for build in made[-1]:
            for path in build.folder.iterdir():
                content = path.read_bytes()
                for text in (head, head[:7], str(tmp_path), "/site-packages"):
                    assert text.encode() not in content, (path, text)
    for one, other in zip(*made, strict=True):
        assert one.record == other.record
        assert not filecmp.dircmp(one.folder, other.folder).left_only
        for path in one.folder.iterdir():
            assert path.read_bytes() == (other.folder / path.name).read_bytes(), path


def test_a_model_that_the_builder_gets_wrong_is_converted_with_a_warning(tmp_path: Path) -> None:
    """The builder's LM head is any Linear as wide; test_outside_models.py has its check fail."""
    source = changed_model(tmp_path / "source", twin_of_the_head)
    wrong = built(source, tmp_path / "wrong", DML_FP16)
    (note,) = (note for note in wrong.record.notes if "LM head" in note)
    assert "model.layers.0.mlp.gate_up_proj.weight" in note


def test_weights_beyond_float16_are_refused_by_name(tmp_path: Path) -> None:
    source = changed_model(tmp_path / "source", enormous)
    with pytest.raises(ConvertError, match=r"model\.layers\.1\.mlp\.down_proj\.weight.*65504"):
        built(source, tmp_path / "fp16", DML_FP16)
    built(source, tmp_path / "cpu", INT4["cpu"])


def test_an_architecture_the_builder_does_not_know_is_one_line(tmp_path: Path) -> None:
    def rename(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
        config["architectures"] = ["Phi9ForCausalLM"]

    source = changed_model(tmp_path / "source", rename)
    with pytest.raises(ConvertError, match="not currently supported") as error:
        built(source, tmp_path / "fp16", DML_FP16)
    assert "\n" not in str(error.value)
    assert list((tmp_path / "fp16").iterdir()) == []


def test_an_int4_build_is_not_derived_from_another_kind_or_another_source(
    small: Path, tmp_path: Path
) -> None:
    cuda = built(small, tmp_path / "cuda", CUDA_FP16)
    with pytest.raises(ConvertError, match=r"expected a float build for dml, found.*cuda"):
        built(small, tmp_path / "one", INT4["dml"], cuda)
    dml = built(small, tmp_path / "dml", DML_FP16)
    with pytest.raises(ConvertError, match="remove 'from'"):
        built(small, tmp_path / "two", DML_FP16, dml)
    with pytest.raises(ConvertError, match=r"of another source.*rebuild"):
        refuse_other_source({"source": {"files": [1]}}, {"files": [2]})
