"""The OpenVINO converter against the official tools, on four layers with near-zero rows.

Both sides really run: ours as its own process, as rule convert does, and optimum-cli.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from transformers import AutoConfig, Phi3Config, Phi3ForCausalLM

from converters.contract import ConvertError
from converters.openvino import convert
from converters.openvino.ir import read_ir, weight_constants
from converters.openvino.lint import lint
from phiforge.artifact.safetensors_header import SafetensorsError
from phiforge.artifact.tree import files_under
from phiforge.sources.weights import mapped_source_weights
from support.openvino_builds import (
    FP16,
    INT4,
    INT8,
    NF4,
    NPU,
    Builds,
    content,
    differences,
    log_probabilities,
    near_zero_rows,
    run_ours,
)
from support.parity import CARRIED, MODEL, changed_model, enormous, mean_kl, reference

BEYOND_SLIDING_WINDOW = 2600
LAYERS = 4


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_model(tmp_path_factory.mktemp("source"), near_zero_rows, layers=LAYERS)


@pytest.fixture(scope="module")
def builds(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Builds:
    with ThreadPoolExecutor(max_workers=2) as pool:  # ends when all are built
        return Builds(source, tmp_path_factory.mktemp("builds"), pool)


@pytest.mark.parametrize("variant", ["g64", "int4", "int8", "nf4"])
def test_derived_graph_equals_that_of_optimum_cli(builds: Builds, variant: str) -> None:
    for part in ("model", "tokenizer", "detokenizer"):
        ir = f"openvino_{part}.xml"
        assert differences(builds.ours(variant) / ir, builds.official(variant) / ir) == []


def test_quantizing_the_fp16_payload_instead_would_change_near_zero_rows(
    builds: Builds,
) -> None:
    """So the model does hold the trap, and equality above is not for want of it."""
    import nncf

    naive = nncf.compress_weights(read_ir(builds.ours("fp16") / "openvino_model.xml"))
    codes = {one.get_friendly_name(): one.data for one in naive.get_ops() if _is_codes(one)}
    official = ov.Core().read_model(builds.official("int8") / "openvino_model.xml")
    changed = [
        one.get_friendly_name()
        for one in official.get_ops()
        if _is_codes(one) and not np.array_equal(one.data, codes[one.get_friendly_name()])
    ]
    assert any("layers" in name for name in changed)


def _is_codes(node: ov.Node) -> bool:
    return node.get_type_name() == "Constant" and node.get_element_type() == ov.Type.u8


def test_fp16_rounds_matrices_once_and_nothing_else(builds: Builds, source: Path) -> None:
    graph = read_ir(builds.ours("fp16") / "openvino_model.xml")
    matrices = dict(weight_constants(graph))
    with mapped_source_weights(source) as weights:
        for name, constant in matrices.items():
            exact = (weights[name].data.astype(np.uint32) << 16).view(np.float32)
            assert constant.get_element_type() == ov.Type.f16
            assert np.array_equal(constant.data, exact.astype(np.float16)), name
        assert {name for name in weights if weights[name].data.ndim == 2} == set(matrices)
    # optimum-cli's INT8 graph keeps the others as they were traced.
    ours = _float32_constants(builds.ours("fp16"))
    assert ours == _float32_constants(builds.official("int8"))
    assert _inverse_frequencies(source) in ours.values()


def _float32_constants(folder: Path) -> dict[int, bytes]:
    operations = read_ir(folder / "openvino_model.xml").get_ops()
    nodes = [node for node in operations if node.get_type_name() == "Constant"]
    return dict(enumerate(sorted(data for kind, _, data in map(content, nodes) if kind == "f32")))


def _inverse_frequencies(source: Path) -> bytes:
    config = AutoConfig.from_pretrained(source)
    dimension = config.hidden_size // config.num_attention_heads
    exponents = torch.arange(0, dimension, 2, dtype=torch.int64).float() / dimension
    return (1.0 / (config.rope_parameters["rope_theta"] ** exponents)).numpy().tobytes()


def test_fp16_is_nearer_the_reference_than_optimum_cli(builds: Builds, source: Path) -> None:
    """The only deviation from the official tool in any weight or constant is FP16's."""
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    token_ids = np.random.default_rng(0).integers(3, vocabulary, BEYOND_SLIDING_WINDOW)
    exact = reference(source, token_ids)
    ours = mean_kl(exact, log_probabilities(builds.ours("fp16"), token_ids))
    official = mean_kl(exact, log_probabilities(builds.official("fp16"), token_ids))
    print(f"mean KL over {BEYOND_SLIDING_WINDOW} tokens: ours {ours:.3g}, optimum {official:.3g}")
    assert ours < official
    assert ours < 1e-9


def test_a_payload_is_what_a_runtime_loads_and_the_source_s_own_files(
    builds: Builds, source: Path
) -> None:
    irs = {
        f"openvino_{part}.{end}"
        for part in ("model", "tokenizer", "detokenizer")
        for end in ("xml", "bin")
    }
    own = {name for name in CARRIED if (source / name).is_file()}
    for variant in ("fp16", "int4"):
        payload = builds.ours(variant)
        assert {name.as_posix() for name in files_under(payload)} == irs | own
        for name in own:
            assert (payload / name).read_bytes() == (source / name).read_bytes()


def test_a_record_says_how(builds: Builds) -> None:
    toolchain, recipe, notes = builds.record("int4")
    assert {"nncf", "openvino"} <= set(toolchain)
    assert recipe["mode"] == "int4_sym"
    assert (recipe["group_size"], recipe["ratio"], recipe["awq"]) == (128, 0.6, False)
    toolchain, _, notes = builds.record("fp16")
    assert {"optimum-intel", "openvino", "torch", "transformers"} <= set(toolchain)
    assert any("near-zero rows" in note and "qkv_proj" in note for note in notes)


def test_another_processor_gives_the_same_bytes(builds: Builds, source: Path) -> None:
    """Fewer instructions and threads make nncf compile other helper graphs on the way."""
    elsewhere = builds.folder / "an other" / "place"
    older = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    settings = {**older, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    run_ours(source, elsewhere / "fp16", FP16, **settings)
    run_ours(source, elsewhere / "int4", INT4, elsewhere / "fp16", **settings)
    run_ours(source, elsewhere / "nf4", NF4, elsewhere / "fp16", **settings)
    for variant in ("fp16", "int4", "nf4"):
        for name in files_under(elsewhere / variant):
            content = (elsewhere / variant / name).read_bytes()
            assert content == (builds.ours(variant) / name).read_bytes(), name
            assert str(builds.folder).encode() not in content


def converted(
    source: Path, into: Path, options: Mapping[str, Any], base: Path | None = None
) -> Path:
    into.mkdir()
    convert(source, into, options=options, base=base)
    return into


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Make a two-layer Phi-3 with random weights; changes go into its configuration."""
    threads = torch.get_num_threads()

    def make(dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Path:
        settings = {
            "vocab_size": 1600, "hidden_size": 128, "intermediate_size": 256,
            "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "sliding_window": 2047, "pad_token_id": 0, "eos_token_id": 2, **changes,
        }  # fmt: skip
        torch.manual_seed(0)
        model = Phi3ForCausalLM(Phi3Config(**settings)).to(dtype)
        folder = tmp_path / "small"
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(MODEL / name, folder / name)
        return folder

    yield make
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("dtype", "at_most"), [(torch.float32, 1e-6), (torch.float16, 1e-9)], ids=["float32", "float16"]
)
def test_sources_of_other_types_are_as_faithful(
    small: Callable[..., Path], tmp_path: Path, dtype: torch.dtype, at_most: float
) -> None:
    source = small(dtype)
    fp16 = converted(source, tmp_path / "fp16", FP16)
    int4 = converted(source, tmp_path / "int4", INT4, fp16)
    token_ids = np.random.default_rng(0).integers(3, 1600, 64)
    exact = reference(source, token_ids)
    fp16_kl, int4_kl = (mean_kl(exact, log_probabilities(one, token_ids)) for one in (fp16, int4))
    assert fp16_kl < at_most < int4_kl < 0.05


def test_remote_code_is_left_out_of_the_configuration(tmp_path: Path) -> None:
    def remote(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
        config["auto_map"] = {"AutoConfig": "configuration_phi3.Phi3Config"}

    made = converted(changed_model(tmp_path / "source", remote), tmp_path / "fp16", FP16)
    left = json.loads((tmp_path / "source/config.json").read_text())
    del left["auto_map"]
    assert json.loads((made / "config.json").read_text()) == left


def test_a_weight_beyond_fp16_is_an_error_by_name(tmp_path: Path) -> None:
    source = changed_model(tmp_path / "source", enormous)
    with pytest.raises(ConvertError, match=r"model\.layers\.1\.mlp\.down_proj\.weight"):
        converted(source, tmp_path / "fp16", FP16)


def test_a_base_made_from_another_source_is_an_error(builds: Builds, tmp_path: Path) -> None:
    def louder(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
        near_zero_rows(tensors, config)
        tensors["lm_head.weight"] *= 2

    other = changed_model(tmp_path / "other", louder, layers=LAYERS)
    with pytest.raises(ConvertError, match=r"differ in 'lm_head\.weight'"):
        convert(other, tmp_path, options=INT4, base=builds.ours("fp16"))


def test_a_derived_variant_without_a_base_is_an_error(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="from: openvino-fp16"):
        convert(source, tmp_path, options=INT8)


def test_a_group_size_that_does_not_fit_is_an_error(
    small: Callable[..., Path], tmp_path: Path
) -> None:
    source = small(hidden_size=192)
    base = converted(source, tmp_path / "fp16", FP16)
    with pytest.raises(ConvertError, match="group size"):
        convert(source, tmp_path, options=INT4, base=base)


def test_lint_refuses_what_the_npu_cannot_run(builds: Builds) -> None:
    """nncf made a mixed IR although the recipe says INT4 throughout."""
    with pytest.raises(ConvertError, match=r"stored-types: .* i4, .* u8: model\.layers\."):
        lint(builds.ours("int4"), NPU)


def test_a_truncated_source_or_ir_is_an_error(builds: Builds, source: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(source, broken)
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[:-1000])
    with pytest.raises(SafetensorsError, match="not a safetensors file"):
        convert(broken, tmp_path, options=INT4, base=builds.ours("fp16"))
    empty = tmp_path / "empty"
    shutil.copytree(builds.ours("fp16"), empty)
    (empty / "openvino_model.bin").write_bytes(b"")
    with pytest.raises(ConvertError, match="incomplete"):
        convert(source, tmp_path, options=INT4, base=empty)
