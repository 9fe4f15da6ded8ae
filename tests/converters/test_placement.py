"""The search for each matrix's form: what it measures, what a kill costs, what builds replay."""

import itertools
import random
import shutil
import signal
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from converters.contract import ConvertError
from converters.openvino import convert, placement
from converters.openvino.lint import lint
from converters.openvino.placement import choose, measure, read_texts
from support.checkout import ROOT
from support.openvino_builds import FP16, INT4, differences
from support.parity import MODEL, changed_model, unchanged
from validators.lint.openvino_ir import read_ir
from validators.simulation import ROUNDINGS, with_zero_points

Costs = dict[str, dict[str, float]]

LAYERS = 4
TEXTS = [[1, *range(60, 79)], [1, *range(300, 331)]]
_SEARCH = f"""
import sys
from pathlib import Path
from converters.openvino.placement import measure
measure(Path(sys.argv[1]), {TEXTS}, Path(sys.argv[2]), "this search")
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return changed_model(tmp_path_factory.mktemp("source"), unchanged, layers=LAYERS)


@pytest.fixture(scope="module")
def costs(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Costs:
    return measure(source, TEXTS, tmp_path_factory.mktemp("search"), "this search")[0]


def test_with_more_draws_costs_come_to_those_of_the_whole_model_with_one_matrix_rounded(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "_DRAWS", 128)
    costs, _ = measure(source, TEXTS, tmp_path, "this search")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32).eval()
    assert len(costs) == 4 * LAYERS
    exact = _predictions(model)
    ratios: dict[str, float] = {}
    for name, estimated in costs.items():
        weight = model.get_parameter(name)
        kept = weight.data
        for form, rounded in (
            ("sym64", ROUNDINGS["int4"](kept.view(-1, 64))),
            ("asym32", with_zero_points(kept.view(-1, 32), 16)),
        ):
            weight.data = rounded.view(kept.shape)
            kl = float((exact.exp() * (exact - _predictions(model))).sum(-1).mean())
            ratios[f"{name} {form}"] = estimated[form] / kl
        weight.data = kept
    assert 0.9 < statistics.median(ratios.values()) < 1.1
    # A few down_proj make massive activations: no small change, so the square is too high.
    low, high = min(ratios.values()), max(one for name, one in ratios.items() if "down" not in name)
    assert low > 0.7 and high < 1.4, ratios


@torch.inference_mode()
def _predictions(model: torch.nn.Module) -> torch.Tensor:
    each = [model(torch.tensor([ids])).logits[0, :-1].double().log_softmax(-1) for ids in TEXTS]
    return torch.cat(each)


def test_a_killed_search_goes_on_and_finds_the_same(
    source: Path, costs: Costs, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = (sys.executable, "-c", _SEARCH, str(source), str(tmp_path))
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as search:
        assert search.stdout is not None
        for line in search.stdout:
            if line.startswith("layer 3 of"):
                search.send_signal(signal.SIGKILL)
                break
    kept = tmp_path / "gradients.safetensors"
    left = kept.read_bytes()
    found, _ = measure(source, TEXTS, tmp_path, "this search")
    assert found == costs
    said = capfd.readouterr().out
    assert "layer 3 of" not in said and "layer 1 of" in said
    assert list(tmp_path.iterdir()) == []
    for content, about in ((left, "another search"), (left[: len(left) // 2], "this search")):
        kept.write_bytes(content)
        assert measure(source, TEXTS, tmp_path, about)[0] == costs
        assert "layer 4 of" in capfd.readouterr().out


def test_the_choice_is_the_cheapest_of_all_that_fit(costs: Costs) -> None:
    chance = random.Random(1)
    sizes = {name: chance.choice((1, 2, 4)) for name in list(costs)[:6]}
    widths = {"sym64": 4.25, "asym32": 4.625, "int8": 8.0}
    for bits in (4.25, 4.44, 5.0, 5.67, 8.0):
        room = bits * sum(sizes.values())
        best = min(
            sum(costs[name].get(form, 0) for name, form in zip(sizes, forms, strict=True))
            for forms in itertools.product(widths, repeat=len(sizes))
            if sum(widths[form] * size for form, size in zip(forms, sizes.values(), strict=True))
            <= room
        )
        chosen = choose(costs, sizes, bits)
        assert list(chosen) == list(sizes)
        assert sum(costs[name].get(form, 0) for name, form in chosen.items()) == pytest.approx(best)
        assert sum(widths[form] * sizes[name] for name, form in chosen.items()) <= room
    with pytest.raises(ConvertError, match="no form is so small"):
        choose(costs, sizes, 4.2)


def test_a_text_of_a_golden_prompt_is_refused(tmp_path: Path) -> None:
    texts = tmp_path / "calibration.yaml"
    texts.write_text('texts: ["<|user|>Comment ça va ?<|end|><|assistant|>Bien !"]')
    with pytest.raises(ConvertError, match="begins with the golden prompt 'french'"):
        read_texts(texts, MODEL / "golden.yaml", MODEL)


def test_builds_replay_a_placement_as_nncf_does_its_own(source: Path, tmp_path: Path) -> None:
    """Told the places that nncf's metric chose, one call a form gives what its one call gives."""
    fp16, guide, placed = (tmp_path / name for name in ("fp16", "guide", "placed"))
    for folder in (fp16, guide, placed):
        folder.mkdir()
    convert(source, fp16, options=FP16)
    convert(source, guide, options=INT4, base=fp16)
    matrices = read_ir(guide / "openvino_model.xml").matrices
    wide = [name for name, one in matrices.items() if one.type == "u8" and ".layers." in name]
    assert wide
    narrow = [name for name, one in matrices.items() if one.type == "i4"]
    record = convert(source, placed, options=_placed(narrow), base=fp16)
    assert differences(placed / "openvino_model.xml", guide / "openvino_model.xml") == []
    (part,) = record.recipe["int4_matrices"]
    assert (part["mode"], part["group_size"], part["names"]) == ("int4_sym", 128, narrow)
    for wrong in (
        _placed(narrow[1:]),
        _placed([*narrow, wide[0]]),
        _placed(narrow, group_size=64),
        _placed(narrow, symmetric=False),
    ):
        with pytest.raises(ConvertError, match="stored-types"):
            lint(placed, wrong)
    shutil.rmtree(placed)
    placed.mkdir()
    unknown = _placed(["model.layers.77.mlp.down_proj.weight"])
    with pytest.raises(ConvertError, match=r"no matrix 'model\.layers\.77.*snakemake placement"):
        convert(source, placed, options=unknown, base=fp16)


def test_a_build_has_each_matrix_in_its_form(source: Path, tmp_path: Path) -> None:
    fp16, placed = tmp_path / "fp16", tmp_path / "placed"
    for folder in (fp16, placed):
        folder.mkdir()
    convert(source, fp16, options=FP16)
    layers = [f"model.layers.{number}" for number in range(LAYERS)]
    coarse = [f"{layer}.mlp.{name}.weight" for layer in layers for name in ("gate_up_proj",)]
    fine = [f"{layer}.self_attn.qkv_proj.weight" for layer in layers]
    parts = [_part(coarse, True, 64), _part(fine, False, 32)]
    options = {"weight_format": "int4", "int4_matrices": parts}
    convert(source, placed, options=options, base=fp16)
    forms = {
        name: (one.type, one.shape[-1])
        for name, one in read_ir(placed / "openvino_model.xml").matrices.items()
    }
    assert {forms.pop(name) for name in coarse} == {("i4", 64)}
    assert {forms.pop(name) for name in fine} == {("u4", 32)}
    assert {kind for kind, _ in forms.values()} == {"u8"}


def _placed(names: Sequence[str], symmetric: bool = True, group_size: int = 128) -> dict[str, Any]:
    return {"weight_format": "int4", "int4_matrices": [_part(names, symmetric, group_size)]}


def _part(names: Sequence[str], symmetric: bool, group_size: int) -> dict[str, Any]:
    return {"symmetric": symmetric, "group_size": group_size, "names": list(names)}
