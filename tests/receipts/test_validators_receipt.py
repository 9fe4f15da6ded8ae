"""A receipt is a closed record; thresholds and gates come from files that are held to schemas."""

from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.record import read_record
from phiforge.receipts.gates import Metrics
from phiforge.receipts.receipt import (
    Basis,
    CheckResult,
    Failure,
    ReceiptError,
    Subject,
    blocked,
    judged,
    unusable,
)
from phiforge.receipts.signed_receipt import write_signed
from phiforge.settings.documents import ConfigurationError, validate
from phiforge.trust.keys import occasional
from validators.acceptance import load_gates

ROOT = Path(__file__).parents[2]
SUBJECT = Subject(
    model="phi3-tiny",
    variant="openvino-int4",
    device="npu",
    kind="device",
    standin_for=None,
    format="openvino",
    precision="int4",
    runtime="openvino_npu",
    settings={"npuw_devices": "NPU"},
    synthetic=False,
    artifact_sha256="a" * 64,
)
BASIS = Basis("b" * 64, "c" * 64, "d" * 64, "e" * 64)
SIGNER = occasional()
PROOF = {"what": "EXECUTION_DEVICES", "observed": "CPU", "failure": None}
EXECUTED = {
    "device": "CPU",
    "how": "it said so",
    "proof": [PROOF],
    "pinned": {},
    "details": {},
}
ACCEPTANCE = """
fp16: &gates
  top1_agreement: {worst_honest: 1.0, mildest_sabotage: 0.5, gate: 0.75}
  mean_kl: {worst_honest: 1.0e-4, mildest_sabotage: 1.0e-2, gate: 1.0e-3}
  max_kl: {worst_honest: 1.0, mildest_sabotage: 1.1, reported_only: too near}
  perplexity_ratio: {worst_honest: 1.0, mildest_sabotage: 2.0, gate: 1.4}
int8: *gates
int4: *gates
"""


def passed(metrics: Metrics | None = None) -> dict[str, Any]:
    metrics = metrics or Metrics(10, 1.0, 1e-5, 1e-4, 1.0)
    return judged(
        SUBJECT,
        BASIS,
        CheckResult((), (), metrics, 12),
        executed_on=EXECUTED,
        thresholds={"mean_kl": 1e-3, "validated_tokens": 12},
        toolchain={"openvino": "1"},
    )


def test_each_verdict_makes_a_valid_receipt(tmp_path: Path) -> None:
    failure = Failure("damaged-payload", "openvino_model.bin changed")
    for receipt, verdict in (
        (passed(), "passed"),
        (blocked(SUBJECT, "no NPU here", "run it where one is"), "blocked"),
        (unusable(SUBJECT, BASIS, failure), "failed"),
    ):
        path = tmp_path / f"{verdict}.json"
        write_signed(path, receipt, SIGNER)
        validate(read_record(path), "receipt", path)
        assert read_record(path)["verdict"] == verdict


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"verdict": "perfect"},
        {"executed_on": None},
        {"executed_on": {**EXECUTED, "proof": []}},
        {"executed_on": {**EXECUTED, "proof": [{**PROOF, "failure": "unproven-device"}]}},
        {"performance": {"numerics": "default", "runs": 3}},
        {"metrics": {}},
        {"artifact_sha256": None},
        {"failures": [{"name": "mean-kl", "what": "too far", "prompt": None}]},
        {"toolchain": {"openvino": 2026}},
        {"validator_sha256": None},
        {"runner": "pigeon"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_receipt_that_says_too_much_or_too_little_is_not_written(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "receipt.json"
    with pytest.raises(ReceiptError, match="malformed"):
        write_signed(path, {**passed(), **change}, SIGNER)
    assert not path.exists()


def test_the_reason_names_the_failures_and_counts_the_rest() -> None:
    many = tuple(Failure("wrong-answer", f"says {i}", f"p{i}") for i in range(6))
    receipt = judged(
        SUBJECT,
        BASIS,
        CheckResult(many, (), None),
        executed_on=EXECUTED,
        thresholds={},
        toolchain={},
    )
    assert receipt["reason"].startswith("wrong-answer (p0): says 0; wrong-answer (p1)")
    assert receipt["reason"].endswith("and 2 more")
    assert len(receipt["failures"]) == 6


def test_gates_judge_each_metric_on_its_own_side(tmp_path: Path) -> None:
    path = tmp_path / "acceptance.yaml"
    path.write_text(ACCEPTANCE)
    own = {"int4": {"mean_kl": 5e-3}, "fp16": {"mean_kl": 9.0}, "minimum_validated_tokens": 300}
    gates = load_gates(path, "int4", own)
    assert gates.thresholds == {**gates.limits, "validated_tokens": 300}
    assert gates.limits == {"top1_agreement": 0.75, "mean_kl": 5e-3, "perplexity_ratio": 1.4}
    assert gates.broken(Metrics(1, 0.75, 5e-3, 99.0, 1.4)) == {}
    assert gates.broken(Metrics(1, 0.74, 6e-3, 99.0, 1.5)) == {
        "top1_agreement": (0.74, 0.75),
        "mean_kl": (6e-3, 5e-3),
        "perplexity_ratio": (1.5, 1.4),
    }


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ("gate: 0.75", "gates: 0.75", "fp16.top1_agreement"),
        (", reported_only: too near", "", "fp16.max_kl"),
        ("int4: *gates", "int2: *gates", "int4"),
    ],
)
def test_a_mistake_in_the_acceptance_file_is_named(
    tmp_path: Path, old: str, new: str, word: str
) -> None:
    path = tmp_path / "acceptance.yaml"
    path.write_text(ACCEPTANCE.replace(old, new))
    with pytest.raises(ConfigurationError, match=word):
        load_gates(path, "int4", {})
