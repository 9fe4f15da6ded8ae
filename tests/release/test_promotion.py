"""What stable needs, what it says is missing, and when a promotion does not hold."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from test_validators_receipt import EXECUTED, SUBJECT

from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.jobs import Blocked
from phiforge.receipts.gates import Gates, Metrics
from phiforge.receipts.golden import GoldenPrompt, GoldenSet
from phiforge.receipts.policy import PROMOTION
from phiforge.receipts.receipt import Basis, CheckResult, Subject, blocked, judged
from phiforge.receipts.signed_receipt import write_signed
from phiforge.release.promotion import (
    PromotionError,
    promote,
    refuse_other_artifact,
    release_signer,
    standing,
)
from phiforge.release.scrutiny import Expected, Row
from phiforge.release.stable import report
from phiforge.trust import keys
from validators.code_digest import validator_digest

LAB = keys.occasional()
ANSWER = {
    "id": "one",
    "prompt": "say one",
    "output": "one",
    "expected": "one",
    "passed": True,
    "not_run": None,
    "answer": None,
}


class NamedSigner(keys.Signer):
    """As if its key had come from a file."""


RUNNER = NamedSigner(LAB._private_key, LAB.public_key)


@dataclass
class Stage:
    """A release folder and what is true of it."""

    release: Path
    expected: Expected
    subject: Subject

    def basis(self) -> Basis:
        told = self.expected
        code = validator_digest("openvino_npu")
        return Basis(told.reference_sha256, told.golden.digest, told.gates.digest, code)

    def passed(self, mean_kl: float = 1e-4) -> dict[str, Any]:
        return judged(
            self.subject,
            self.basis(),
            CheckResult((), (ANSWER,), Metrics(9, 1.0, mean_kl, 1e-3, 1.0), 12),
            executed_on={**EXECUTED, "device": "NPU"},
            thresholds={"mean_kl": 1e-3, "validated_tokens": 0},
            toolchain={"openvino": "1"},
        )

    def put(self, receipt: dict[str, Any], signer: keys.Signer = RUNNER) -> None:
        write_signed(self.release / "evidence/receipts/npu.json", receipt, signer)

    def without_key(self) -> Expected:
        row = replace(self.expected.rows["npu"], key=None)
        return replace(self.expected, rows={"npu": row})

    def lack(self, signer: keys.Signer | None = None) -> dict[str, str]:
        """The one thing that is missing."""
        record = promote(self.release, self.expected, signer or keys.occasional())
        assert record["promoted"] is False
        assert not (self.release / "evidence" / PROMOTION).exists()
        (lack,) = record["missing"]
        return dict(lack)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    release = tmp_path / "release"
    release.mkdir()
    (release / "SHA256SUMS").write_text("of some payload\n")
    artifact = sha256_file(release / "SHA256SUMS")
    made = Stage(
        release,
        Expected(
            model="phi3-tiny",
            variant="openvino-int4-npu",
            artifact_sha256=artifact,
            reference_sha256="b" * 64,
            golden=GoldenSet((GoldenPrompt("one", "say one", 8),), "c" * 64),
            gates=Gates({"mean_kl": 1e-3}, "d" * 64),
            rows={
                "npu": Row(
                    name="npu",
                    kind="device",
                    standin_for=None,
                    runtime="openvino_npu",
                    settings=SUBJECT.settings,
                    executes="NPU",
                    available=False,
                    key=LAB.public_key,
                )
            },
        ),
        replace(SUBJECT, variant="openvino-int4-npu", artifact_sha256=artifact),
    )
    made.put(made.passed())
    return made


def test_a_release_whose_device_receipts_are_signed_is_promoted_and_kept(stage: Stage) -> None:
    signer = keys.occasional()
    record = promote(stage.release, stage.expected, signer)
    assert record["promoted"] and record["keyid"] == signer.public_key.keyid
    written = (stage.release / "evidence" / PROMOTION).read_bytes()
    assert promote(stage.release, stage.expected, signer) == record
    assert promote(stage.release, stage.without_key(), None) == record, "a promotion stands"
    assert (stage.release / "evidence" / PROMOTION).read_bytes() == written
    assert refuse_other_artifact(stage.release, stage.expected.artifact_sha256)


def test_a_blocked_row_is_missing_with_its_remedy(stage: Stage) -> None:
    stage.put(blocked(stage.subject, "no Intel NPU here", "run it where one is"))
    assert stage.lack() == {
        "row": "npu",
        "what": "blocked (no Intel NPU here)",
        "how": "run it where one is",
    }


def test_an_occasional_signature_is_not_enough(stage: Stage) -> None:
    stage.put(stage.passed(), keys.occasional())
    lack = stage.lack()
    assert "signed by an unknown key" in lack["what"]
    assert "PHIFORGE_RUNNER_KEY" in lack["how"]


def test_a_row_without_a_key_can_never_be_enough(stage: Stage) -> None:
    stage.expected = stage.without_key()
    lack = stage.lack()
    assert "the row names no key" in lack["what"]
    assert "phiforge new-key" in lack["how"]


def test_the_labs_own_key_does_not_make_bad_numbers_good(stage: Stage) -> None:
    stage.put(stage.passed(mean_kl=2e-3))
    assert "its mean_kl is 0.002, the gate is 0.001" in stage.lack()["what"]


def test_the_release_key_itself_may_be_missing(stage: Stage) -> None:
    record = promote(stage.release, stage.expected, None)
    assert record["missing"][0]["row"] == "release key"
    assert "PHIFORGE_SIGNING_KEY" in record["missing"][0]["how"]


def test_a_release_that_another_key_signed_is_not_promoted(stage: Stage) -> None:
    write_record(stage.release / "evidence/release.json", {"signer": {"keyid": "0" * 64}})
    assert "signed by another key" in stage.lack()["what"]


def test_no_device_row_is_not_good_enough(stage: Stage) -> None:
    stage.expected = replace(stage.expected, rows={})
    assert stage.lack()["row"] == "no device row"


def test_another_artifact_does_not_take_a_stable_ones_place(stage: Stage) -> None:
    assert not refuse_other_artifact(stage.release, "0" * 64), "a candidate may be replaced"
    promote(stage.release, stage.expected, keys.occasional())
    with pytest.raises(PromotionError, match="a stable release stands here"):
        refuse_other_artifact(stage.release, "0" * 64)
    other = replace(stage.expected, artifact_sha256="0" * 64)
    with pytest.raises(PromotionError, match="of another artifact than the build"):
        promote(stage.release, other, None)


def other_payload(release: Path) -> None:
    (release / "SHA256SUMS").write_text("of another payload\n")


def other_attestation(release: Path) -> None:
    (release / "evidence/receipts/npu.dsse.json").write_text("{}")


def removed_attestation(release: Path) -> None:
    (release / "evidence/receipts/npu.dsse.json").unlink()


def no_envelope(release: Path) -> None:
    (release / "evidence" / PROMOTION).write_text('{"promoted": true}')


def a_test_result(release: Path) -> None:
    envelope = read_record(release / "evidence/receipts/npu.dsse.json")
    write_record(release / "evidence" / PROMOTION, envelope)


@pytest.mark.parametrize(
    "tamper", [other_payload, other_attestation, removed_attestation, no_envelope, a_test_result]
)
def test_a_promotion_that_does_not_hold_is_refused(
    stage: Stage, tamper: Callable[[Path], None]
) -> None:
    promote(stage.release, stage.expected, keys.occasional())
    tamper(stage.release)
    with pytest.raises(PromotionError, match="this promotion does not hold"):
        standing(stage.release)


def test_a_promotion_by_another_key_is_not_ours(stage: Stage) -> None:
    promote(stage.release, stage.expected, keys.occasional())
    with pytest.raises(PromotionError, match="signed by an unknown key"):
        standing(stage.release, keys.occasional().public_key)


def test_the_report_names_what_is_missing_and_fails(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.put(blocked(stage.subject, "no Intel NPU here", "run it where one is"))
    write_record(tmp_path / "one.json", promote(stage.release, stage.expected, None))
    with pytest.raises(PromotionError, match="2 of 2 releases are not stable"):
        report([tmp_path / "one.json"], {"m/v": Blocked("no compiler", "get one")})
    assert capsys.readouterr().out.splitlines() == [
        "phi3-tiny openvino-int4-npu: npu is missing: blocked (no Intel NPU here). "
        "To get it: run it where one is",
        "m v: not built here: no compiler. get one",
    ]


def test_the_release_key_comes_from_the_environment_or_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release_signer({}) is None
    for name in ("configured", "named"):
        keys.new_key(tmp_path / f"{name}.key", tmp_path / f"{name}.pub", kind="ecdsa")
    configured = {"key": str(tmp_path / "configured.key")}
    signer = release_signer(configured)
    assert signer and signer.public_key == keys.read_public(tmp_path / "configured.pub")
    monkeypatch.setenv(keys.SIGNING_KEY, str(tmp_path / "named.key"))
    signer = release_signer(configured)
    assert signer and signer.public_key == keys.read_public(tmp_path / "named.pub")
