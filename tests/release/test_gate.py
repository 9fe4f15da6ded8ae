"""What a gate refuses: each way to cheat with receipts, by name."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.npu_blob import LABEL
from phiforge.artifact.record import read_record, write_record
from phiforge.jobs import Limits
from phiforge.receipts.coverage import DeviceState
from phiforge.receipts.receipt_files import envelope_path
from phiforge.release.gate import GateError
from phiforge.trust import keys
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support import release_edits
from support.release_edits import edit, updated
from support.small_blob import STANDIN, SmallBlob
from support.small_release import COMPILER, NPU, SmallVariant, executed_on, row

Edit = Callable[[SmallVariant], None]


@pytest.fixture
def variant(tmp_path: Path) -> SmallVariant:
    return SmallVariant(tmp_path / "variant")


def test_honest_receipts_make_a_candidate_and_say_what_stable_lacks(variant: SmallVariant) -> None:
    verdict = variant.gate()
    assert {row: one["verdict"] for row, one in verdict["receipts"].items()} == {
        "cpu": "passed",
        NPU: "blocked",
        COMPILER: "blocked",
        "npu-standin": "passed",
    }
    assert verdict["missing_for_stable"] == ["cpu", NPU]
    variant.name_key("cpu", keys.ephemeral())
    assert variant.gate()["missing_for_stable"] == [NPU]


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
        shutil.copyfile(path, path.with_name(path.name.replace("npu-standin", NPU)))


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
        (signed_by_another(NPU), "npu-4000: signed by key .* the row names"),
        (lambda variant: edit(variant.build, lambda build: build.update(artifact_sha256="0" * 64)),
         "cpu: stale, it is about another artifact"),
        (replaced("golden.yaml", "max_new_tokens: 8", "max_new_tokens: 9"),
         "cpu: it answers other golden prompts"),
        (says("cpu", reference_sha256="0" * 64), "cpu: it was compared with another reference"),
        (says("cpu", validator_sha256="0" * 64), "cpu: another validator's code made it"),
        (says("cpu", variant="openvino-int8"), "cpu: copied, .* phi3-tiny/openvino-int8/cpu"),
        (says("cpu", settings={"device": "GPU"}), "cpu: made by another row .* its settings"),
        (of_another_row, "npu-4000: is the receipt of phi3-tiny/openvino-int4/npu-standin"),
        (says(NPU, executed_on=executed_on("CPU")),
         "npu-4000: 'passed', but CPU executed it, NPU must have"),
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


def test_directml_in_software_may_be_absent_but_not_fail(variant: SmallVariant) -> None:
    variant.rows["dml-software"] = row("dml-software", "standin", "DML", ("dml",))
    variant.block("dml-software")
    variant.change("dml-software", available=False)
    assert variant.gate()["receipts"]["dml-software"]["verdict"] == "blocked"
    variant.change("dml-software", available=True)
    with pytest.raises(GateError, match="blocked, and yet it can run here"):
        variant.gate()
    variant.appear("dml-software")
    assert variant.gate()["receipts"]["dml-software"]["verdict"] == "passed"
    variant.put("dml-software", variant.passed("dml-software", **FAILED))
    with pytest.raises(GateError, match="dml-software"):
        variant.gate()


def test_nothing_is_released_that_nothing_executed(variant: SmallVariant) -> None:
    variant.rows = {NPU: variant.rows[NPU]}
    with pytest.raises(GateError, match="nothing executed or compiled it"):
        variant.gate()


def compiled(*path: str, **changes: Any) -> Edit:
    """The compiler took it; its receipt claims something else in the object at ``path``."""

    def claim(variant: SmallVariant) -> None:
        variant.appear(COMPILER)
        receipt = variant.compiled(COMPILER)
        inner: Any = receipt
        for step in path:
            inner = inner[step]
        inner.update(changes)
        variant.put(COMPILER, receipt)

    return claim


def refused(variant: SmallVariant) -> None:
    variant.appear(COMPILER)
    variant.put(COMPILER, variant.compiled(COMPILER, compiled=None, **FAILED))


def offered_as_passed(variant: SmallVariant) -> None:
    """The compiler's receipt, edited, in the device's place."""
    variant.appear(COMPILER)
    signed = read_record(variant.receipt(COMPILER))
    write_record(variant.receipt(NPU), {**signed, "device": NPU, "verdict": "passed"})


def offered_for_the_device(variant: SmallVariant) -> None:
    variant.put(NPU, variant.compiled(COMPILER, device=NPU))


def of_3720(variant: SmallVariant) -> None:
    """An honest receipt of another generation, offered in this one's place."""
    variant.appear(NPU)
    variant.rows["npu-3720"] = row("npu-3720", "device", "NPU")
    variant.put("npu-3720", variant.passed("npu-3720"))
    for one in (Path, envelope_path):
        shutil.copyfile(one(variant.receipt("npu-3720")), one(variant.receipt(NPU)))
    del variant.rows["npu-3720"]


def renamed_from_3720(variant: SmallVariant) -> None:
    """Whoever checked on 3720 signs it as the receipt of 4000."""
    variant.appear(NPU)
    seen = {"DEVICE_ARCHITECTURE": "3720", "NPU_DRIVER_VERSION": "32.0.100"}
    variant.put(NPU, variant.passed(NPU, executed_on=executed_on("NPU", **seen)))


@pytest.mark.parametrize(
    ("cheat", "refusal"),
    [
        (refused, f"{COMPILER}: failed .too far"),
        (lambda variant: variant.change(COMPILER, available=True), "yet it can run here"),
        (offered_as_passed, f"{NPU}: a compiler row says passed: .* only a run can pass"),
        (offered_for_the_device, f"{NPU}: made by another row .* its kind is 'compiler'"),
        (of_3720, f"{NPU}: is the receipt of phi3-tiny/openvino-int4/npu-3720"),
        (renamed_from_3720, f"{NPU}: 'passed', .* another generation: 3720 executed it, .* 4000"),
        (says(NPU, executed_on=executed_on("NPU")), "an unknown one executed it, the row is 4000"),
        (compiled("compiled", platform="3720"), "another generation: it was compiled for 3720"),
        (compiled("compiled", "ir", **{"weights.bin": "0" * 64}), "from another weights.bin"),
        (compiled("compiled", ir={}), "it names no file that was"),
        (compiled(validator_sha256="0" * 64), f"{COMPILER}: another validator's code made it"),
        (compiled(artifact_sha256="0" * 64), f"{COMPILER}: stale, it is about another artifact"),
    ],
)
def test_what_a_compiler_or_another_generation_says_is_never_more_than_it_is(
    variant: SmallVariant, cheat: Edit, refusal: str
) -> None:
    cheat(variant)
    with pytest.raises(GateError, match=refusal):
        variant.gate()


def test_a_compiler_that_took_it_makes_no_device_proven(variant: SmallVariant) -> None:
    variant.appear(COMPILER)
    verdict = variant.gate()
    assert verdict["receipts"][COMPILER]["verdict"] == "compiled"
    assert verdict["missing_for_stable"] == ["cpu", NPU]
    with pytest.raises(GateError, match=f"stable needs {NPU} to pass"):
        variant.gate("stable")


def test_stable_asks_for_the_rows_that_are_named(variant: SmallVariant) -> None:
    variant.change(NPU, required=False)
    variant.name_key("cpu", keys.ephemeral())
    assert variant.gate("stable")["missing_for_stable"] == []


@pytest.fixture
def blob(tmp_path: Path) -> SmallBlob:
    return SmallBlob(tmp_path / "variants")


def test_a_blob_is_a_candidate_by_its_compiler_and_its_irs_stand_in(blob: SmallBlob) -> None:
    verdict = blob.gate()
    told = {name: one["verdict"] for name, one in verdict["receipts"].items()}
    assert told == {NPU: "blocked", COMPILER: "compiled", STANDIN: "passed"}
    base = {"variant": "openvino-int4", "artifact_sha256": sha(blob.base.build)}
    assert {name: one["base"] for name, one in verdict["policy"]["rows"].items()} == {
        NPU: None,
        COMPILER: None,
        STANDIN: base,
    }
    blob.appear(NPU)
    assert blob.gate()["receipts"][NPU]["verdict"] == "passed"


def sha(build: Path) -> str:
    digest: str = read_record(build)["artifact_sha256"]
    return digest


def not_compiled(blob: SmallBlob) -> None:
    blob.change(COMPILER, available=False)
    blob.block(COMPILER)


def standin_of_the_blob(blob: SmallBlob) -> None:
    """A stand-in's receipt that says it ran the blob itself."""
    claimed = {**blob.base.passed(STANDIN), "variant": "npu-blob-4000"}
    blob.base.put(STANDIN, claimed)


def failing_standin(blob: SmallBlob) -> None:
    blob.base.put(STANDIN, blob.base.passed(STANDIN, **FAILED))


def another_base(blob: SmallBlob) -> None:
    edit(blob.base.build, lambda build: build.update(artifact_sha256="0" * 64))


def another_ir_on_the_label(blob: SmallBlob) -> None:
    edit(blob.payload / LABEL, lambda label: label["ir"]["bin"].update(sha256="0" * 64))


def without(row: str) -> Callable[[SmallBlob], None]:
    return lambda blob: blob.rows.pop(row) and None


@pytest.mark.parametrize(
    ("cheat", "refusal"),
    [
        (not_compiled, f"{COMPILER}: what is compiled must have been compiled here"),
        (standin_of_the_blob, f"{STANDIN}: copied, it is the receipt of .*/npu-blob-4000/"),
        (failing_standin, f"{STANDIN}: failed"),
        (another_base, "other-ir: it was compiled from .* openvino-int4 is now 0000"),
        (another_base, f"{STANDIN}: stale, it is about another artifact"),
        (another_ir_on_the_label, "other-ir: weights.bin: the label names 0000"),
        (without(STANDIN), "no stand-in has run the IR that the blob was compiled from"),
        (without(COMPILER), "no compiler row holds the blob against that IR"),
        (compiled("compiled", blob_sha256="b" * 64), "into another blob: bbbb"),
        (compiled("compiled", "ir", **{"weights.bin": "0" * 64}), "from another weights.bin"),
    ],
)
def test_a_blob_that_is_not_what_its_evidence_is_about_is_refused(
    blob: SmallBlob, cheat: Callable[[SmallBlob], None], refusal: str
) -> None:
    cheat(blob)
    with pytest.raises(GateError, match=refusal):
        blob.gate()


def test_a_released_blob_is_verified_with_its_irs_receipt(blob: SmallBlob) -> None:
    release = blob.release()
    receipt = read_record(release / f"evidence/receipts/{STANDIN}.json")
    assert (receipt["variant"], receipt["device"]) == ("openvino-int4", STANDIN)
    verification = verify(release, Trust())
    assert [one.name for one in verification.findings] == ["unknown-signer"]
    assert verification.devices == {NPU: DeviceState("compiled")}
    other = {"variant": "openvino-int4", "artifact_sha256": "0" * 64}
    updated("evidence/gate.json", "policy", "rows", STANDIN, base=other)(release)
    refusals = {one.name for one in verify(release, Trust()).findings if one.refuses}
    assert {"other-ir", "stale-receipt"} <= refusals


def test_a_blob_whose_policy_asks_no_stand_in_is_refused_by_its_readers(blob: SmallBlob) -> None:
    release = blob.release()
    for name in (f"{STANDIN}.json", f"{STANDIN}.dsse.json"):
        (release / "evidence/receipts" / name).unlink()
    edit(release / "evidence/gate.json", lambda gate: gate["receipts"].pop(STANDIN))
    edit(release / "evidence/gate.json", lambda gate: gate["policy"]["rows"].pop(STANDIN))
    assert "no-standin-row" in {one.name for one in verify(release, Trust()).findings}


def test_a_prompt_that_did_not_fit_may_be_left_out(variant: SmallVariant) -> None:
    """For the reason that the variant declares, and for no other."""
    reason = "9 tokens, the variant takes prompts of 8"
    left_out = {"output": None, "passed": None, "not_run": reason}
    says("cpu", "golden", 1, **left_out)(variant)
    with pytest.raises(GateError, match=r"sum did not run .*, the variant declares no reason"):
        variant.gate()
    variant.change("cpu", limits=Limits(prompt_tokens=8))
    assert variant.gate()["receipts"]["cpu"]["verdict"] == "passed"


def test_weights_that_no_check_held_to_the_source_are_not_released(variant: SmallVariant) -> None:
    (variant.payload / "config.json").write_text('{"model_type": "phi3"}')
    note = {"name": "weights-not-held", "what": "the source is not on this machine"}
    for name in ("cpu", "npu-standin"):
        variant.put(name, variant.passed(name, lint=[note]))
    with pytest.raises(GateError, match="weights-not-held: no receipt's check had the source"):
        variant.gate()
    variant.put("cpu", variant.passed("cpu"))
    assert variant.gate()["receipts"]["cpu"]["verdict"] == "passed"


def test_a_receipt_that_leaves_most_prompts_out_is_not_believed(variant: SmallVariant) -> None:
    receipt = variant.passed("cpu")
    for answer in receipt["golden"]:
        answer.update({"output": None, "passed": True, "not_run": "too long, honestly"})
    variant.put("cpu", receipt)
    with pytest.raises(GateError, match="2 of 2 golden prompts were not run, and at least half"):
        variant.gate()
