"""FDT and SDT of a receipt's answers, by hand; the definition is Intel's who_what_benchmark."""

from typing import Any

import pytest

from phiforge.release.comparison import diverging
from support.checkout import ROOT

PAYLOAD = ROOT / "models/phi3-tiny"
EXPECTED = "The capital of Japan is Tokyo."


def entry(output: str | None, expected: str | None = EXPECTED, **more: Any) -> dict[str, Any]:
    return {"output": output, "expected": expected, "not_run": None, **more}


def tokens(text: str) -> int:
    from tokenizers import Tokenizer

    return len(Tokenizer.from_file(str(PAYLOAD / "tokenizer.json")).encode(text).ids)


def test_right_answers_diverge_nowhere() -> None:
    found = diverging([entry(EXPECTED), entry("7.", "7.")], PAYLOAD)
    mean = (tokens(EXPECTED) + tokens("7.")) / 2
    assert found == {"answers": 2, "fdt": mean, "sdt": 0.0}


def test_a_word_more_is_one_to_correct_and_what_follows_is_right() -> None:
    longer = "The capital of Japan is Japan Tokyo."
    found = diverging([entry(longer)], PAYLOAD)
    assert found is not None
    added = tokens(longer) - tokens(EXPECTED)
    assert found["fdt"] == tokens("The capital of Japan is")
    assert found["sdt"] == pytest.approx(added / tokens(longer))


def test_a_mean_is_of_what_ran() -> None:
    left_out = entry(None, not_run="longer than it takes")
    found = diverging([entry(EXPECTED), entry(""), left_out], PAYLOAD)
    assert found == {"answers": 2, "fdt": tokens(EXPECTED) / 2, "sdt": 0.5}


def test_nothing_is_told_of_what_has_nothing_to_be_compared_with() -> None:
    assert diverging([entry("an answer", None)], PAYLOAD) is None
    assert diverging([entry(EXPECTED)], ROOT / "docs") is None
    assert diverging([], PAYLOAD) is None
