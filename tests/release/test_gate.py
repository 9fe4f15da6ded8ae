"""What a gate refuses: each way to cheat with receipts, by name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phiforge.receipts.receipt_files import envelope_path
from phiforge.release.gate import GateError
from phiforge.trust import keys
from support import release_edits
from support.release_edits import edit
from support.small_release import SmallVariant, executed_on

Edit = Callable[[SmallVariant], None]


@pytest.fixture
def variant(tmp_path: Path) -> SmallVariant:
    return SmallVariant(tmp_path / "variant")


def test_honest_receipts_make_a_candidate_and_say_what_stable_lacks(variant: SmallVariant) -> None:
    verdict = variant.gate()
    assert {row: one["verdict"] for row, one in verdict["receipts"].items()} == {
        "cpu": "passed",
        "npu": "blocked",
        "npu-standin": "passed",
    }
    assert verdict["missing_for_stable"] == ["cpu", "npu"]
    variant.name_key("cpu", keys.ephemeral())
    assert variant.gate()["missing_for_stable"] == ["npu"]


def says(row: str, *path: str | int, **changes: Any) -> Edit:
    """Someone with a key of their own claims something else, in the object at ``path``."""

    def claim(variant: SmallVariant) -> None:
        receipt = variant.passed(row)
        inner: Any = receipt
        for step in path:
            inner = inner[step]
        inner.update(changes)
        variant.put(row, receipt)

    return claim


def replaced(name: str, old: str, new: str) -> Edit:
    return lambda variant: release_edits.replaced(name, old, new)(variant.folder)


def unsigned(variant: SmallVariant) -> None:
    envelope_path(variant.receipt("cpu")).unlink()


def of_another_row(variant: SmallVariant) -> None:
    for path in (variant.receipt("npu-standin"), envelope_path(variant.receipt("npu-standin"))):
        shutil.copyfile(path, path.with_name(path.name.replace("npu-standin", "npu")))


def signed_by_another(row: str) -> Edit:
    """The row names a key; the receipt has another one, and calls it one that lasts."""

    def edit(variant: SmallVariant) -> None:
        variant.name_key(row, keys.ephemeral())
        forger = keys.ephemeral()
        object.__setattr__(forger, "ephemeral", False)
        variant.put(row, variant.passed(row), forger)

    return edit


def blocked_standin(variant: SmallVariant) -> None:
    variant.block("npu-standin")
    variant.change("npu-standin", available=False)


FAILED = {
    "verdict": "failed",
    "reason": "too far",
    "failures": [{"name": "mean-kl", "what": "too far", "prompt": None}],
}


@pytest.mark.parametrize(
    ("cheat", "refusal"),
    [
        (unsigned, "cpu: nobody signed this receipt"),
        (lambda variant: variant.block("cpu"), "cpu: blocked, and yet it can run here"),
        (replaced("checks/cpu.json", '"mean_kl": 1e-05', '"mean_kl": 1e-06'), "cpu: is not the"),
        (signed_by_another("cpu"), "cpu: signed by key .* the row names"),
        (signed_by_another("npu"), "npu: signed by key .* the row names"),
        (lambda variant: edit(variant.build, lambda build: build.update(artifact_sha256="0" * 64)),
         "cpu: stale, it is about another artifact"),
        (replaced("golden.yaml", "max_new_tokens: 8", "max_new_tokens: 9"),
         "cpu: it answers other golden prompts"),
        (says("cpu", reference_sha256="0" * 64), "cpu: it was compared with another reference"),
        (says("cpu", validator_sha256="0" * 64), "cpu: another validator's code made it"),
        (says("cpu", variant="openvino-int8"), "cpu: copied, .* phi3-tiny/openvino-int8/cpu"),
        (says("cpu", settings={"device": "GPU"}), "cpu: made by another row .* its settings"),
        (of_another_row, "npu: is the receipt of phi3-tiny/openvino-int4/npu-standin"),
        (says("npu", executed_on=executed_on("CPU")),
         "npu: 'passed', but CPU executed it, NPU must have"),
        (replaced("acceptance.yaml", "gate: 0.75", "gate: 0.7"), "cpu: its thresholds are not"),
        (replaced("acceptance.yaml", "1.1, rep", "1.2, rep"), "of another acceptance file"),
        (says("cpu", thresholds={"mean_kl": 9.0}), "cpu: its thresholds are not the current gates"),
        (says("cpu", "metrics", mean_kl=0.5),
         "cpu: 'passed', but its mean_kl is 0.5, the gate is 0.001"),
        (says("cpu", "metrics", top1_agreement=0.5),
         "cpu: 'passed', but its top1_agreement is 0.5"),
        (says("cpu", validated_tokens=11),
         "cpu: .* longest sequence has 11 tokens, 12 must have run"),
        (says("cpu", "golden", 0, passed=False),
         "cpu: 'passed', but golden prompt capital did not"),
        (says("cpu", "golden", 0, output="Bergen."),
         "capital answers 'Bergen.', 'Oslo.' is expected"),
        (says("cpu", "golden", 1, output="That is two."),
         "golden prompt sum lacks 'three' in its answer"),
        (says("cpu", "golden", 1, output=None), "golden prompt sum did not"),
        (says("cpu", golden=[]), "cpu: 'passed', but not every golden prompt is in it"),
        (says("npu-standin", **FAILED), "npu-standin: failed"),
        (blocked_standin, "npu-standin: stand-in is blocked"),
    ],
)  # fmt: skip
def test_a_receipt_that_is_not_what_it_seems_is_refused_by_name(
    variant: SmallVariant, cheat: Edit, refusal: str
) -> None:
    cheat(variant)
    with pytest.raises(GateError, match=refusal):
        variant.gate()
    assert not variant.verdict.exists()


def test_nothing_is_released_that_nothing_executed(variant: SmallVariant) -> None:
    variant.rows = {"npu": variant.rows["npu"]}
    with pytest.raises(GateError, match="no receipt passed: nothing executed this artifact"):
        variant.gate()


def test_a_prompt_that_did_not_fit_may_be_left_out(variant: SmallVariant) -> None:
    left_out = {"output": None, "passed": None, "not_run": "too long for this artifact"}
    says("cpu", "golden", 1, **left_out)(variant)
    assert variant.gate()["receipts"]["cpu"]["verdict"] == "passed"
