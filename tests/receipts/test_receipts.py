"""A receipt is a closed record that belongs to its envelope; whatever was changed is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult as Result

from phiforge.artifact.record import read_record, write_record
from phiforge.receipts.gates import Gates, Metrics
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
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed, write_signed
from phiforge.settings.documents import ConfigurationError
from phiforge.trust import TrustError, keys
from phiforge.trust.envelope import open_envelope
from support.small_release import ACCEPTANCE
from validators.acceptance import load_gates

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
SIGNER = keys.ephemeral()
PROOF = {"what": "EXECUTION_DEVICES", "observed": "CPU", "failure": None}
EXECUTED = {"device": "CPU", "how": "it said so", "proof": [PROOF], "pinned": {}, "details": {}}
BLOCKED = blocked(SUBJECT, "no NPU here", "run it where one is")


def passed(**changes: Any) -> dict[str, Any]:
    receipt = judged(
        SUBJECT,
        BASIS,
        CheckResult((), (), Metrics(10, 1.0, 1e-5, 1e-4, 1.0), 12),
        executed_on=EXECUTED,
        thresholds={"mean_kl": 1e-3, "validated_tokens": 12},
        toolchain={"openvino": "1"},
    )
    return {**receipt, **changes}


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    path = tmp_path / "npu.json"
    write_signed(path, passed(), SIGNER)
    return path


@pytest.mark.parametrize(
    ("written", "verdict"),
    [
        (passed(), "passed"),
        (BLOCKED, "blocked"),
        (unusable(SUBJECT, BASIS, Failure("damaged-payload", "weights changed")), "failed"),
    ],
)
def test_what_was_written_is_read_again(
    tmp_path: Path, written: dict[str, Any], verdict: str
) -> None:
    path = tmp_path / "npu.json"
    write_signed(path, written, SIGNER)
    receipt = read_signed(path, [SIGNER.public_key])
    assert receipt == read_signed(path)
    assert receipt.verdict == verdict
    if verdict == "blocked":
        assert receipt.signer is None and not envelope_path(path).exists()
    else:
        assert receipt.signer is not None and receipt.signer.ephemeral
        assert receipt.signer.keyid == SIGNER.public_key.keyid


def test_a_runners_own_key_is_not_ephemeral(tmp_path: Path) -> None:
    key = keys.new_key(tmp_path / "a.key", tmp_path / "a.pub")
    write_signed(tmp_path / "npu.json", passed(), keys.load_private(tmp_path / "a.key"))
    signer = read_signed(tmp_path / "npu.json", [key]).signer
    assert signer is not None and not signer.ephemeral


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"verdict": "perfect"},
        {"executed_on": None},
        {"executed_on": {**EXECUTED, "proof": []}},
        {"executed_on": {**EXECUTED, "proof": [{**PROOF, "failure": "unproven-device"}]}},
        {"performance": {"numerics": "default", "runs": 3}},
        {"metrics": None},
        {"artifact_sha256": None},
        {"artifact_sha256": "A" * 64},
        {"failures": [{"name": "mean-kl", "what": "too far", "prompt": None}]},
        {"toolchain": {"openvino": 2026}},
        {"validator_sha256": None},
        {"runner": "pigeon"},
        {"model": ["phi3"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_receipt_that_says_too_much_or_too_little_is_not_written(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ReceiptError, match="malformed"):
        write_signed(tmp_path / "npu.json", passed(**change), SIGNER)
    assert list(tmp_path.iterdir()) == []


def longer(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def edited_envelope(path: Path) -> None:
    envelope = read_record(envelope_path(path))
    payload = envelope["payload"]
    write_record(envelope_path(path), {**envelope, "payload": payload[:200] + "A" + payload[201:]})


def no_envelope(path: Path) -> None:
    envelope_path(path).unlink()


def broken_envelope(path: Path) -> None:
    envelope_path(path).write_text("{")


def blocked_beside_an_envelope(path: Path) -> None:
    write_record(path, BLOCKED)


def another_rows(path: Path) -> None:
    write_record(path, {**read_record(path), "device": "gpu"})


def another_rows_envelope(path: Path) -> None:
    own = read_record(path)
    write_signed(path.with_name("gpu.json"), {**own, "device": "gpu"}, SIGNER)
    envelope_path(path.with_name("gpu.json")).replace(envelope_path(path))


def another_signer(path: Path) -> None:
    signer = {**read_record(path)["signer"], "public_key": keys.ephemeral().public_key.pem}
    write_record(path, {**read_record(path), "signer": signer})


def not_ephemeral(path: Path) -> None:
    signer = {**read_record(path)["signer"], "ephemeral": False}
    write_record(path, {**read_record(path), "signer": signer})


def another_verdict(path: Path) -> None:
    failures = [{"name": "mean-kl", "what": "too far", "prompt": None}]
    own = envelope_path(path).read_bytes()
    write_signed(path, passed(verdict="failed", reason="too far", failures=failures), SIGNER)
    envelope_path(path).write_bytes(own)


def missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (longer, "changed-receipt"),
        (edited_envelope, "bad-signature"),
        (no_envelope, "unsigned-receipt"),
        (broken_envelope, "not-json"),
        (blocked_beside_an_envelope, "changed-receipt"),
        (another_rows, "copied-receipt"),
        (another_rows_envelope, "copied-receipt"),
        (another_signer, "wrong-key"),
        (not_ephemeral, "changed-receipt"),
        (another_verdict, "changed-receipt"),
        (missing, "missing-receipt"),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
def test_an_edit_is_named(receipt: Path, edit: Callable[[Path], None], name: str) -> None:
    edit(receipt)
    with pytest.raises(TrustError, check=lambda error: error.name == name):
        read_signed(receipt)


def test_another_signer_is_not_believed(receipt: Path) -> None:
    with pytest.raises(TrustError, check=lambda error: error.name == "wrong-key"):
        read_signed(receipt, [keys.ephemeral().public_key])


def test_the_signed_statement_is_in_totos_test_result_and_names_every_digest(
    tmp_path: Path,
) -> None:
    answer = dict.fromkeys(("output", "expected", "not_run", "answer"))
    golden = [
        {**answer, "id": "one", "prompt": "1", "passed": True},
        {**answer, "id": "two", "prompt": "2", "passed": False},
    ]
    failures = [
        {"name": "wrong-answer", "what": "two", "prompt": "two"},
        {"name": "mean-kl", "what": "too far", "prompt": None},
    ]
    failed = passed(
        verdict="failed", reason="x", golden=golden, failures=failures, acceptance_sha256=None
    )
    write_signed(tmp_path / "npu.json", failed, SIGNER)
    envelope = read_record(tmp_path / "npu.dsse.json")
    statement, _ = open_envelope(envelope, [SIGNER.public_key])
    predicate = statement["predicate"]
    ParseDict(predicate, Result())
    named = {one["name"] for one in predicate["configuration"]}
    assert named == {"npu.json", "golden-prompts", "reference", "validator"}
    assert predicate["result"] == "FAILED"
    assert (predicate["passedTests"], predicate["failedTests"]) == (["one"], ["two", "mean-kl"])


def test_the_reason_names_the_failures_and_counts_the_rest() -> None:
    many = tuple(Failure("wrong-answer", f"says {i}", f"p{i}") for i in range(6))
    receipt = unusable(SUBJECT, BASIS, *many)
    assert receipt["reason"].startswith("wrong-answer (p0): says 0; wrong-answer (p1)")
    assert receipt["reason"].endswith("and 2 more")
    assert len(receipt["failures"]) == 6


def test_gates_judge_each_metric_on_its_own_side(tmp_path: Path) -> None:
    path = tmp_path / "acceptance.yaml"
    path.write_text(ACCEPTANCE)
    own = {"int4": {"mean_kl": 5e-3}, "fp16": {"mean_kl": 9.0}, "minimum_validated_tokens": 300}
    gates: Gates = load_gates(path, "int4", own)
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
