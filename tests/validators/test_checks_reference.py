"""The reference: exact whatever the memory, and unwilling to contradict a golden prompt."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from support.checkout import ROOT
from validators.contract import CheckError
from validators.golden import load_golden
from validators.reference import make_reference
from validators.reference_tree import Reference, load_reference

SOURCE = ROOT / "models/phi3-tiny"


def golden_prompt(name: str) -> GoldenPrompt:
    return next(p for p in load_golden(SOURCE / "golden.yaml").prompts if p.id == name)


def made(into: Path, *prompts: GoldenPrompt, **options: object) -> Reference:
    make_reference(SOURCE, GoldenSet(prompts, "0" * 64), into, **options)  # type: ignore[arg-type]
    return load_reference(into)


def test_weights_held_narrow_give_the_same_reference(tmp_path: Path) -> None:
    prompt = golden_prompt("capital")
    wide = made(tmp_path / "wide", prompt, hold="float32")
    narrow = made(tmp_path / "narrow", prompt, hold="checkpoint")
    assert narrow.prompts == wide.prompts
    assert wide.prompts[0].text == prompt.expected
    assert wide.prompts[0].stop_id is not None
    scores = [load_file(tmp_path / name / "reference.safetensors") for name in ("wide", "narrow")]
    for name, values in scores[0].items():
        np.testing.assert_allclose(scores[1][name], values, rtol=0, atol=1e-5, err_msg=name)


def test_every_position_is_a_distribution(tmp_path: Path) -> None:
    found = made(tmp_path / "reference", golden_prompt("sum"))
    prompt = found.prompts[0]
    scored = found.scored[prompt.id]
    assert scored.positions == tuple(range(len(prompt.sequence) - 1))
    mass = np.exp(scored.distribution.top).sum(axis=1) + np.exp(scored.distribution.remainder)
    np.testing.assert_allclose(mass, 1.0, atol=1e-9)
    answers = [p for p in scored.positions if p >= len(prompt.prompt_ids) - 1]
    greedy = [int(scored.distribution.first[position]) for position in answers]
    assert greedy == list(prompt.sequence[len(prompt.prompt_ids) :])


@pytest.mark.parametrize(
    ("change", "key"),
    [({"expected": "Atlantis."}, "'expected'"), ({"must_contain": "Atlantis"}, "'must_contain'")],
)
def test_a_golden_prompt_that_the_source_contradicts_stops_everything(
    tmp_path: Path, change: dict[str, str], key: str
) -> None:
    known = golden_prompt("capital")
    wrong = GoldenPrompt(known.id, known.text, known.max_new_tokens, **change)
    with pytest.raises(CheckError, match=key) as caught:
        made(tmp_path / "reference", wrong)
    assert "Atlantis" in str(caught.value)
    assert not (tmp_path / "reference").exists()


def test_random_weights_are_asked_nothing_and_long_prompts_are_left_out_by_name(
    tmp_path: Path,
) -> None:
    short, long = golden_prompt("capital"), golden_prompt("guide-introduction")
    into = tmp_path / "reference"
    found = made(into, short, long, positions=5, check_tokens=15, synthetic=True)
    assert [prompt.id for prompt in found.prompts] == ["capital"]
    assert found.prompts[0].answer_ids == ()
    record = yaml.safe_load((into / "REFERENCE.json").read_text())
    [left_out] = record["left_out"]
    assert left_out["id"] == "guide-introduction"
    assert "check_tokens is 15" in left_out["reason"]
    assert sum(len(part.positions) for part in found.scored.values()) == 5
    assert record["synthetic"] is True


def test_a_reference_that_was_edited_is_refused_by_name(tmp_path: Path) -> None:
    into = tmp_path / "reference"
    made(into, golden_prompt("capital"))
    (into / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckError, match=r"tokenizer\.json: the reference's file is not what"):
        load_reference(into)
