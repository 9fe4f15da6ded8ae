"""A receipt is a closed record that belongs to its envelope; whatever was changed is named."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult as Result

from phiforge.artifact.record import read_record
from phiforge.receipts.gates import Gates, Metrics
from phiforge.receipts.receipt import Failure, ReceiptError, compiled, unusable
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed, write_signed
from phiforge.settings.documents import ConfigurationError
from phiforge.trust import TrustError, keys
from phiforge.trust.envelope import open_envelope
from support.release_edits import Edit, in_payload, remove, replaced, updated, write
from support.small_release import ACCEPTANCE, COMPILER, NPU, SmallVariant, executed_on
from validators.acceptance import load_gates

SIGNER = keys.ephemeral()
FAILURE = Failure("damaged-payload", "weights changed")


@pytest.fixture
def variant(tmp_path: Path) -> SmallVariant:
    return SmallVariant(tmp_path / "variant", signers={"cpu": SIGNER})


@pytest.fixture
def receipt(variant: SmallVariant) -> Path:
    return variant.receipt("cpu")


@pytest.mark.parametrize("verdict", ["passed", "blocked", "failed"])
def test_what_was_written_is_read_again(variant: SmallVariant, receipt: Path, verdict: str) -> None:
    if verdict == "blocked":
        variant.block("cpu")
    elif verdict == "failed":
        variant.put("cpu", unusable(variant.subject("cpu"), variant.basis("cpu"), FAILURE))
    read = read_signed(receipt, [SIGNER.public_key])
    assert read == read_signed(receipt)
    assert read.verdict == verdict
    if verdict == "blocked":
        assert read.signer is None and not envelope_path(receipt).exists()
    else:
        assert read.signer is not None and read.signer.ephemeral
        assert read.signer.keyid == SIGNER.public_key.keyid


def test_a_runners_own_key_is_not_ephemeral(variant: SmallVariant, tmp_path: Path) -> None:
    key = keys.new_key(tmp_path / "a.key", tmp_path / "a.pub")
    variant.put("cpu", variant.passed("cpu"), keys.load_private(tmp_path / "a.key"))
    signer = read_signed(variant.receipt("cpu"), [key]).signer
    assert signer is not None and not signer.ephemeral


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"verdict": "perfect"},
        {"executed_on": None},
        {"executed_on": {**executed_on("CPU"), "proof": []}},
        {"executed_on": executed_on("CPU", "unproven-device")},
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
    variant: SmallVariant, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(ReceiptError, match="malformed"):
        write_signed(tmp_path / "cpu.json", variant.passed("cpu", **change), SIGNER)
    assert list(tmp_path.iterdir()) == [variant.folder]


def test_what_a_compiler_says_is_read_again_and_is_no_pass(variant: SmallVariant) -> None:
    variant.put(COMPILER, variant.compiled(COMPILER))
    receipt = variant.receipt(COMPILER)
    read = read_signed(receipt)
    assert (read.verdict, read.reason, read.executed_on) == ("compiled", "", None)
    assert read.compiled is not None and read.compiled.interface == "11.4.10"
    envelope = read_record(envelope_path(receipt))
    assert read.signer is not None
    statement, _ = open_envelope(envelope, [keys.load_public(read.signer.public_key, "")])
    ParseDict(statement["predicate"], Result())
    assert statement["predicate"]["result"] == "WARNED"


def test_what_a_compiler_refused_has_a_reason_and_no_evidence(variant: SmallVariant) -> None:
    subject, basis = variant.subject(COMPILER), variant.basis(COMPILER)
    variant.put(COMPILER, compiled(subject, basis, None, {}, FAILURE))
    read = read_signed(variant.receipt(COMPILER))
    assert (read.verdict, read.reason) == ("failed", "damaged-payload: weights changed")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"verdict": "passed"}, "only a run can pass"),
        ({"kind": "device"}, "only a run can pass"),
        ({"kind": "standin", "verdict": "passed"}, "only a run can pass"),
        ({"compiled": None}, "the compiler's evidence"),
        ({"artifact_sha256": None}, "has an artifact"),
        ({"failures": [{"name": "a", "what": "b", "prompt": None}]}, "no failure"),
        ({"executed_on": executed_on("NPU")}, "nothing executed"),
        ({"thresholds": {"mean_kl": 1.0}}, "has no answers, metrics or thresholds"),
        ({"metrics": {"positions": 1, "top1_agreement": 1.0, "mean_kl": 0.0, "max_kl": 0.0,
                      "perplexity_ratio": 1.0, "execution_kl": None, "weights_kl": None}},
         "has no answers, metrics or thresholds"),
        ({"validator_sha256": None}, "names its signer and its validator"),
    ],
)  # fmt: skip
def test_a_compilers_receipt_claims_nothing_that_only_a_run_shows(
    variant: SmallVariant, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(ReceiptError, match=problem):
        variant.put(COMPILER, variant.compiled(COMPILER, **change))


def blocked_beside_an_envelope(checks: Path) -> None:
    shutil.copy(checks / f"{NPU}.json", checks / "cpu.json")
    updated("cpu.json", device="cpu")(checks)


def another_rows_envelope(checks: Path) -> None:
    own = read_record(checks / "cpu.json")
    write_signed(checks / "gpu.json", {**own, "device": "gpu"}, SIGNER)
    (checks / "gpu.dsse.json").replace(checks / "cpu.dsse.json")


def another_verdict(checks: Path) -> None:
    failures = [{"name": "mean-kl", "what": "too far", "prompt": None}]
    failed = {"verdict": "failed", "reason": "too far", "failures": failures}
    envelope = (checks / "cpu.dsse.json").read_bytes()
    write_signed(checks / "cpu.json", {**read_record(checks / "cpu.json"), **failed}, SIGNER)
    (checks / "cpu.dsse.json").write_bytes(envelope)


OTHER_KEY = keys.ephemeral().public_key
OTHER_SIGNER = {"keyid": OTHER_KEY.keyid, "public_key": OTHER_KEY.pem}


@pytest.mark.parametrize(
    ("edit", "name"),
    [
        (replaced("cpu.json", "{", "{ "), "changed-receipt"),
        (in_payload("cpu.dsse.json", b"PASSED", b"FAILED"), "bad-signature"),
        (remove("cpu.dsse.json"), "unsigned-receipt"),
        (write("cpu.dsse.json", b"{"), "not-json"),
        (blocked_beside_an_envelope, "changed-receipt"),
        (updated("cpu.json", device="gpu"), "copied-receipt"),
        (another_rows_envelope, "copied-receipt"),
        (updated("cpu.json", "signer", public_key=OTHER_KEY.pem), "wrong-key"),
        (updated("cpu.json", "signer", **OTHER_SIGNER), "wrong-key"),
        (updated("cpu.json", "signer", ephemeral=False), "changed-receipt"),
        (another_verdict, "changed-receipt"),
        (remove("cpu.json"), "missing-receipt"),
    ],
)
def test_an_edit_is_named(receipt: Path, edit: Edit, name: str) -> None:
    edit(receipt.parent)
    with pytest.raises(TrustError, check=lambda error: error.name == name):
        read_signed(receipt)


def test_another_signer_is_not_believed(receipt: Path) -> None:
    with pytest.raises(TrustError, check=lambda error: error.name == "wrong-key"):
        read_signed(receipt, [OTHER_KEY])


def test_the_signed_statement_is_in_totos_test_result_and_names_every_digest(
    variant: SmallVariant,
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
    failed = {"verdict": "failed", "reason": "x", "golden": golden, "failures": failures}
    variant.put("cpu", variant.passed("cpu", **failed, acceptance_sha256=None))
    envelope = read_record(envelope_path(variant.receipt("cpu")))
    statement, _ = open_envelope(envelope, [SIGNER.public_key])
    predicate = statement["predicate"]
    ParseDict(predicate, Result())
    named = {one["name"] for one in predicate["configuration"]}
    assert named == {"cpu.json", "golden-prompts", "reference", "validator"}
    assert predicate["result"] == "FAILED"
    assert (predicate["passedTests"], predicate["failedTests"]) == (["one"], ["two", "mean-kl"])


def test_the_reason_names_the_failures_and_counts_the_rest(
    variant: SmallVariant,
) -> None:
    many = tuple(Failure("wrong-answer", f"says {i}", f"p{i}") for i in range(6))
    receipt = unusable(variant.subject("cpu"), variant.basis("cpu"), *many)
    assert receipt["reason"].startswith("wrong-answer (p0): says 0; wrong-answer (p1)")
    assert receipt["reason"].endswith("and 2 more")
    assert len(receipt["failures"]) == 6


def test_gates_judge_each_metric_on_its_own_side(tmp_path: Path) -> None:
    path = tmp_path / "acceptance.yaml"
    path.write_text(ACCEPTANCE)
    simulated = {
        "int4": {"mean_kl": 2.5e-3, "max_kl": 9.0},
        "fp16": {"mean_kl": 9.0},
        "bfloat16": {"answers_mean_kl": 1e-3},
    }
    gates: Gates = load_gates(path, "int4", {"minimum_validated_tokens": 300}, simulated)
    narrow = load_gates(path, "int4", {}, {"int4": {"mean_kl": 1e-4}})
    assert narrow.limits["mean_kl"] == 1e-3, "a model only widens"
    assert gates.thresholds == {**gates.limits, "validated_tokens": 300}
    assert gates.limits == {"top1_agreement": 0.75, "mean_kl": 5e-3, "perplexity_ratio": 1.4}
    assert gates.broken(Metrics(1, 0.75, 5e-3, 99.0, 1.4)) == {}
    assert gates.broken(Metrics(1, 0.74, 6e-3, 99.0, 1.5)) == {
        "top1_agreement": (0.74, 0.75),
        "mean_kl": (6e-3, 5e-3),
        "perplexity_ratio": (1.5, 1.4),
    }
    executed = Metrics(1, 1.0, 0.0, 0.0, 1.0, execution_kl=5e-3, weights_kl=9.0)
    assert gates.broken(executed) == {}, "weights at hand, and no gate asked for"
    assert gates.of_run(held=True, pinned={}).broken(executed) == {"execution_kl": (5e-3, 4e-3)}
    assert (
        gates.of_run(held=True, pinned={"KV_CACHE_PRECISION": "f32"}).limits["execution_kl"] == 1e-8
    )


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
        load_gates(path, "int4", {}, {})
