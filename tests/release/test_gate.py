"""What a gate refuses: each way to cheat with receipts, by name."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.record import read_record, write_record
from phiforge.receipts.receipt_files import envelope_path
from phiforge.release.gate import GateError
from phiforge.trust import keys
from support.small_release import SmallVariant

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


def says(row: str = "cpu", **changes: Any) -> Edit:
    """Someone with a key of their own claims something else."""
    return lambda variant: variant.put(row, variant.passed(row, **changes))


def replaced(name: str, old: str, new: str) -> Edit:
    def edit(variant: SmallVariant) -> None:
        path = variant.folder / name
        text = re.sub(old, new, path.read_text(), count=1)
        assert text != path.read_text()
        path.write_text(text)

    return edit


def answers(index: int, **changes: Any) -> Edit:
    def edit(variant: SmallVariant) -> None:
        golden = variant.passed("cpu")["golden"]
        golden = [*golden[:index], {**golden[index], **changes}, *golden[index + 1 :]]
        variant.put("cpu", variant.passed("cpu", golden=golden))

    return edit


def numbers(**changes: Any) -> Edit:
    def edit(variant: SmallVariant) -> None:
        metrics = {**variant.passed("cpu")["metrics"], **changes}
        variant.put("cpu", variant.passed("cpu", metrics=metrics))

    return edit


def unsigned(variant: SmallVariant) -> None:
    envelope_path(variant.receipt("cpu")).unlink()


def written_by_hand(variant: SmallVariant) -> None:
    write_record(variant.receipt("npu"), {**read_record(variant.receipt("cpu")), "device": "npu"})


def failure_hidden_as_blocked(variant: SmallVariant) -> None:
    envelope_path(variant.receipt("cpu")).unlink()
    blocked = {**read_record(variant.receipt("npu")), "device": "cpu"}
    settings = variant.rows["cpu"].row.settings
    write_record(variant.receipt("cpu"), {**blocked, "settings": settings})


def of_another_row(variant: SmallVariant) -> None:
    for path in (variant.receipt("npu-standin"), envelope_path(variant.receipt("npu-standin"))):
        shutil.copyfile(path, path.with_name(path.name.replace("npu-standin", "npu")))


def standin_as_device(variant: SmallVariant) -> None:
    executed = variant.passed("npu-standin")["executed_on"]
    variant.put("npu", variant.passed("npu", executed_on=executed))


def signed_by_another(row: str) -> Edit:
    """The row names a key; the receipt has another one, and calls it one that lasts."""

    def edit(variant: SmallVariant) -> None:
        variant.name_key(row, keys.ephemeral())
        forger = keys.ephemeral()
        object.__setattr__(forger, "ephemeral", False)
        variant.put(row, variant.passed(row), forger)

    return edit


def edited_signer(variant: SmallVariant) -> None:
    """The receipt names the row's key, and another key has signed it."""
    signer = keys.ephemeral()
    variant.name_key("cpu", signer)
    named = read_record(variant.receipt("cpu"))["signer"]
    variant.put("cpu", variant.passed("cpu"), keys.ephemeral())
    receipt = read_record(variant.receipt("cpu"))
    write_record(variant.receipt("cpu"), {**receipt, "signer": named})


def blocked_standin(variant: SmallVariant) -> None:
    blocked = {**read_record(variant.receipt("npu")), "device": "npu-standin", "kind": "standin"}
    own = {"settings": {"device": "CPU"}, "standin_for": "npu"}
    envelope_path(variant.receipt("npu-standin")).unlink()
    write_record(variant.receipt("npu-standin"), {**blocked, **own})
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
        (written_by_hand, "npu: nobody signed this receipt"),
        (failure_hidden_as_blocked, "cpu: blocked, and yet it can run here"),
        (replaced("checks/cpu.json", '"mean_kl": 1e-05', '"mean_kl": 1e-06'), "cpu: is not the"),
        (replaced("checks/cpu.dsse.json", '"payload": "e', '"payload": "f'), "cpu: the signature"),
        (edited_signer, "cpu: signed by another key"),
        (signed_by_another("cpu"), "cpu: signed by key .* the row names"),
        (signed_by_another("npu"), "npu: signed by key .* the row names"),
        (replaced("build/BUILD.json", '"artifact_sha256": "..', '"artifact_sha256": "00'),
         "cpu: stale, it is about another artifact"),
        (replaced("golden.yaml", "max_new_tokens: 8", "max_new_tokens: 9"),
         "cpu: it answers other golden prompts"),
        (says(reference_sha256="0" * 64), "cpu: it was compared with another reference"),
        (says(validator_sha256="0" * 64), "cpu: another validator's code made it"),
        (says(variant="openvino-int8"), "cpu: copied, .* phi3-tiny/openvino-int8/cpu"),
        (says(settings={"device": "GPU"}), "cpu: made by another row .* its settings"),
        (of_another_row, "npu: is the receipt of phi3-tiny/openvino-int4/npu-standin"),
        (standin_as_device, "npu: 'passed', but CPU executed it, NPU must have"),
        (replaced("acceptance.yaml", "gate: 0.75", "gate: 0.7"), "cpu: its thresholds are not"),
        (replaced("acceptance.yaml", "1.1, rep", "1.2, rep"), "of another acceptance file"),
        (says(thresholds={"mean_kl": 9.0}), "cpu: its thresholds are not the current gates"),
        (numbers(mean_kl=0.5), "cpu: 'passed', but its mean_kl is 0.5, the gate is 0.001"),
        (numbers(top1_agreement=0.5), "cpu: 'passed', but its top1_agreement is 0.5"),
        (says(validated_tokens=11), "cpu: .* longest sequence has 11 tokens, 12 must have run"),
        (answers(0, passed=False), "cpu: 'passed', but golden prompt capital did not"),
        (answers(0, output="Bergen."), "capital answers 'Bergen.', 'Oslo.' is expected"),
        (answers(1, output="That is two."), "golden prompt sum lacks 'three' in its answer"),
        (answers(1, output=None), "golden prompt sum did not"),
        (says(golden=[]), "cpu: 'passed', but not every golden prompt is in it"),
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
    answers(1, output=None, passed=None, not_run="too long for this artifact")(variant)
    assert variant.gate()["receipts"]["cpu"]["verdict"] == "passed"
