"""The search for INT8's places: what it measures, that a kill costs a layer, what builds replay."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from converters.contract import ConvertError
from converters.openvino import convert
from converters.openvino.lint import lint
from converters.openvino.placement import choose, measure, read_texts
from support.checkout import ROOT
from support.openvino_builds import FP16, INT4, differences
from support.parity import MODEL, changed_model, unchanged
from validators.lint.openvino_ir import read_ir
from validators.simulation import ROUNDINGS

LAYERS, GROUP = 4, 128
TEXTS = [[1, *range(60, 79)], [1, *range(300, 331)]]
_SEARCH = f"""
import sys
from pathlib import Path
from converters.openvino.placement import measure
measure(Path(sys.argv[1]), {TEXTS}, {GROUP}, Path(sys.argv[2]), "this search")
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_model(tmp_path_factory.mktemp("source"), unchanged, layers=LAYERS)


@pytest.fixture(scope="module")
def costs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    return measure(source, TEXTS, GROUP, tmp_path_factory.mktemp("search"), "this search")[0]


def test_a_cost_is_that_of_the_whole_model_with_one_matrix_rounded(
    source: Path, costs: dict[str, float]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    assert len(costs) == 4 * LAYERS
    for name in ("model.layers.0.mlp.down_proj.weight", "model.layers.3.self_attn.qkv_proj.weight"):
        exact = _predictions(model)
        weight = model.get_parameter(name)
        kept = weight.data
        weight.data = ROUNDINGS["int4"](kept.view(len(kept), -1, GROUP)).view(kept.shape)
        rounded = _predictions(model)
        weight.data = kept
        kl = float((exact.exp() * (exact - rounded)).sum(-1).mean())
        assert costs[name] == pytest.approx(kl, rel=0.01)


@torch.inference_mode()
def _predictions(model: torch.nn.Module) -> torch.Tensor:
    each = [model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1) for ids in TEXTS]
    return torch.cat(each)


def test_a_killed_search_goes_on_and_finds_the_same(
    source: Path, costs: dict[str, float], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-c", _SEARCH, str(source), str(tmp_path))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        for line in search.stdout:
            if line.startswith("layer 2 of"):
                search.send_signal(signal.SIGKILL)
                break
    assert (tmp_path / "states.safetensors").is_file()
    left = (tmp_path / "states.safetensors").read_bytes()
    found, _ = measure(source, TEXTS, GROUP, tmp_path, "this search")
    assert found == costs
    assert "layer 1 of" not in capfd.readouterr().out
    assert list(tmp_path.glob("states*")) == []
    (tmp_path / "states.safetensors").write_bytes(left)
    measure(source, TEXTS, GROUP, tmp_path, "another search")
    assert "layer 1 of" in capfd.readouterr().out


def test_what_gets_int8_is_the_best_that_fits() -> None:
    sizes = {"a": 3, "b": 2, "c": 2, "d": 1}
    assert choose({"a": 3.1, "b": 2.0, "c": 2.0, "d": 0.1}, sizes, 0.5) == {"b", "c"}
    assert choose({"a": 3.1, "b": 2.0, "c": 2.0, "d": 1.0}, sizes, 0.5) == {"a", "d"}


def test_a_text_of_a_golden_prompt_is_refused(tmp_path: Path) -> None:
    texts = tmp_path / "calibration.yaml"
    texts.write_text('texts: ["<|user|>Comment ça va ?<|end|><|assistant|>Bien !"]')
    with pytest.raises(ConvertError, match="begins with the golden prompt 'french'"):
        read_texts(texts, MODEL / "golden.yaml", MODEL)


def test_builds_replay_a_placement_as_nncf_does_its_own(source: Path, tmp_path: Path) -> None:
    """Told the places that nncf's metric chose, two calls give what its one call gives."""
    fp16, guide, placed = (tmp_path / name for name in ("fp16", "guide", "placed"))
    for folder in (fp16, guide, placed):
        folder.mkdir()
    convert(source, fp16, options=FP16)
    convert(source, guide, options=INT4, base=fp16)
    matrices = read_ir(guide / "openvino_model.xml").matrices
    wide = [name for name, one in matrices.items() if one.type == "u8" and ".layers." in name]
    assert wide
    options = {**INT4, "ratio": 1.0, "int8_matrices": wide}
    record = convert(source, placed, options=options, base=fp16)
    assert differences(placed / "openvino_model.xml", guide / "openvino_model.xml") == []
    assert record.recipe["int8_matrices"] == wide
    narrow = next(name for name, one in matrices.items() if one.type == "i4")
    for other in (wide[1:], [*wide, narrow]):
        with pytest.raises(ConvertError, match="stored-types"):
            lint(placed, {**options, "int8_matrices": other})
    shutil.rmtree(placed)
    placed.mkdir()
    unknown = {**options, "int8_matrices": ["model.layers.77.mlp.down_proj.weight"]}
    with pytest.raises(ConvertError, match=r"no matrix 'model\.layers\.77.*snakemake placement"):
        convert(source, placed, options=unknown, base=fp16)
