"""A card's metadata, read by the Hub's own library."""

import math
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from phiforge.artifact.record import read_record
from phiforge.release.card import render
from support.small_release import SmallVariant

FACTS = {"summary": "s", "snippet": "print()", "version": "0.1.0", "keyid": "ab"}
HUB = {"kind": "hub", "repo": "acme/phi", "revision": "0" * 40, "files": []}
SPREAD = {"min": 1.0, "p50": 2.0, "p90": 3.0, "max": 4.0}
PERFORMANCE = {
    "numerics": "default", "runs": 2, "threads": 2, "prompt_tokens": SPREAD,
    "new_tokens": SPREAD, "first_token_ms": SPREAD, "tokens_per_s": None,
}  # fmt: skip


@pytest.fixture
def variant(tmp_path: Path) -> SmallVariant:
    return SmallVariant(tmp_path / "variant")


def card(variant: SmallVariant, base_model: str | None = None, **build: Any) -> ModelCard:
    receipts = [read_record(variant.receipt(name)) for name in variant.rows]
    facts = {**FACTS, "languages": ["en", "no"], "base_model": base_model}
    built = {**read_record(variant.build), **build}
    return ModelCard(render(built, receipts, variant.gate(), facts, variant.payload))


def test_the_hub_reads_language_licence_and_base(variant: SmallVariant) -> None:
    data = card(variant).data
    assert (data.language, data.license, data.license_link) == (["en", "no"], "mit", "LICENSE")
    assert data.base_model is None and data.pipeline_tag == "text-generation"
    data = card(variant, source=HUB).data
    assert (data.base_model, data.base_model_relation) == ("acme/phi", "quantized")
    data = card(variant, base_model="acme/base").data
    assert (data.base_model, data.base_model_relation) == ("acme/base", "finetune")


def test_the_hub_reads_the_evaluation_results(variant: SmallVariant) -> None:
    variant.put("cpu", variant.passed("cpu", performance=PERFORMANCE))
    data = card(variant).data
    assert data.model_name == "Phi-3 tiny openvino-int4"
    found = {(one.dataset_config, one.metric_type): one for one in data.eval_results}
    passed = {"cpu", "npu-standin"}
    fidelity = {"top1_agreement", "mean_kl", "max_kl", "perplexity_ratio"}
    expected = {(row, metric) for row in passed for metric in fidelity}
    assert found.keys() == expected | {("cpu", "first_token_ms")}
    assert all(math.isfinite(one.metric_value) for one in found.values())
    one = found["cpu", "mean_kl"]
    assert (one.task_type, one.metric_value) == ("text-generation", 1e-5)
    assert one.dataset_args == {"positions": 10, "prompts": 2}
    # What the library writes of it says the same.
    again = ModelCard(f"---\n{data.to_yaml()}\n---\n").data
    assert [vars(one) for one in again.eval_results] == [vars(one) for one in data.eval_results]


def test_a_title_cannot_end_the_metadata(variant: SmallVariant) -> None:
    data = card(variant, title="x\n---\nlicense: other\n---\n").data
    assert data.license == "mit" and data.model_name.startswith("x\n---")
