"""Real receipts: each way to cheat is refused by name."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.record import read_record, write_record
from phiforge.jobs import RowPolicy
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import write_signed
from phiforge.release.gate import GateError, gate
from phiforge.release.scrutiny import expect as expect_of
from phiforge.release.scrutiny import scrutinize
from phiforge.settings.documents import read_yaml
from phiforge.settings.plan import row_of
from phiforge.settings.settings import load
from phiforge.trust import keys
from support.checkout import ROOT, Checkout

SETTINGS = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")
MODEL = SETTINGS.models["phi3-tiny"]
OVERRIDES = {
    **MODEL.acceptance.plain(),
    "minimum_validated_tokens": MODEL.minimum_validated_tokens,
}
VARIANT = "openvino-int4"


@dataclass
class Case:
    """Copies of what a gate reads, to be tampered with."""

    folder: Path
    pipeline: Path
    golden: Path
    acceptance: Path
    rows: dict[str, RowPolicy]

    def receipt(self, row: str) -> Path:
        return self.folder / f"{row}.json"

    def build(self) -> dict[str, Any]:
        return read_record(self.folder / "BUILD.json")

    def told(self) -> dict[str, Any]:
        return {
            "golden": self.golden,
            "reference": self.pipeline / "artifacts/reference/phi3-tiny/REFERENCE.json",
            "acceptance": self.acceptance,
            "overrides": OVERRIDES,
            "rows": self.rows,
        }

    def gate(self) -> dict[str, Any]:
        receipts = [self.receipt(row) for row in self.rows]
        verdict = self.folder / "verdict"
        gate(self.folder / "BUILD.json", receipts, "candidate", verdict, **self.told())
        return read_record(verdict)

    def sign_again(self, row: str, **changes: Any) -> None:
        """Let someone with a key of their own claim something else."""
        changed = {**read_record(self.receipt(row)), **changes}
        write_signed(self.receipt(row), changed, keys.occasional())

    def take(self, row: str, other: Path) -> None:
        shutil.copyfile(other, self.receipt(row))
        shutil.copyfile(envelope_path(other), envelope_path(self.receipt(row)))

    def checked(self, variant: str, row: str) -> Path:
        return self.pipeline / f"artifacts/checks/phi3-tiny/{variant}/{row}.json"


@pytest.fixture
def case(pipeline: Checkout, tmp_path: Path) -> Case:
    variant = SETTINGS.variants[VARIANT]
    made = Case(
        folder=tmp_path / VARIANT,
        pipeline=pipeline.folder,
        golden=tmp_path / "golden.yaml",
        acceptance=tmp_path / "acceptance.yaml",
        rows={
            name: RowPolicy(
                replace(
                    row_of(SETTINGS.devices[name], variant),
                    executes="GPU" if name == "gpu" else "CPU",
                ),
                available=name != "gpu",
                key=None,
            )
            for name in variant.devices
        },
    )
    shutil.copytree(made.checked(VARIANT, "cpu").parent, made.folder)
    artifacts = pipeline.folder / "artifacts"
    shutil.copyfile(artifacts / f"build/phi3-tiny/{VARIANT}/BUILD.json", made.folder / "BUILD.json")
    shutil.copyfile(ROOT / "models/phi3-tiny/golden.yaml", made.golden)
    shutil.copyfile(ROOT / "config/acceptance.yaml", made.acceptance)
    return made


def test_honest_receipts_are_believed_in_another_checkout_too(case: Case) -> None:
    verdict = case.gate()
    assert {row: told["verdict"] for row, told in verdict["receipts"].items()} == {
        "cpu": "passed",
        "gpu": "blocked",
        "gpu-standin": "passed",
    }
    assert verdict["missing_for_stable"] == ["cpu", "gpu"]


def unsigned(case: Case) -> None:
    envelope_path(case.receipt("cpu")).unlink()


def written_by_hand(case: Case) -> None:
    passed = read_record(case.receipt("cpu"))
    write_record(case.receipt("gpu"), {**passed, "device": "gpu"})


def blocked_by_hand(case: Case) -> None:
    told = read_record(case.receipt("gpu"))
    write_record(case.receipt("cpu"), {**told, "device": "cpu"})


def failure_hidden_as_blocked(case: Case) -> None:
    blocked_by_hand(case)
    envelope_path(case.receipt("cpu")).unlink()
    told = read_record(case.receipt("cpu"))
    settings = case.rows["cpu"].row.settings
    write_record(case.receipt("cpu"), {**told, "settings": settings, "runtime": "openvino"})


def edited_receipt(case: Case) -> None:
    text = case.receipt("cpu").read_text()
    case.receipt("cpu").write_text(text.replace('"validated_tokens": ', '"validated_tokens": 1'))
    assert case.receipt("cpu").read_text() != text


def edited_envelope(case: Case) -> None:
    path = envelope_path(case.receipt("cpu"))
    envelope = read_record(path)
    head, tail = envelope["payload"][:200], envelope["payload"][201:]
    write_record(path, {**envelope, "payload": head + "A" + tail})


def stale(case: Case) -> None:
    write_record(case.folder / "BUILD.json", {**case.build(), "artifact_sha256": "0" * 64})


def other_golden(case: Case) -> None:
    text = case.golden.read_text()
    case.golden.write_text(text.replace("max_new_tokens: 1024", "max_new_tokens: 1000", 1))


def other_reference(case: Case) -> None:
    case.sign_again("cpu", reference_sha256="0" * 64)


def other_validator(case: Case) -> None:
    case.sign_again("cpu", validator_sha256="0" * 64)


def of_another_variant(case: Case) -> None:
    case.take("cpu", case.checked("openvino-int8", "cpu"))


def of_another_row(case: Case) -> None:
    case.take("gpu", case.checked(VARIANT, "gpu-standin"))


def standin_as_device(case: Case) -> None:
    case.take("gpu", case.checked(VARIANT, "gpu-standin"))
    row = case.rows["gpu"].row
    case.sign_again(
        "gpu",
        device="gpu",
        **{key: getattr(row, key) for key in ("kind", "standin_for", "settings")},
    )


def gentler_gates(case: Case) -> None:
    text = re.sub(r"gate: [0-9.]+", "gate: 0.9", case.acceptance.read_text())
    case.acceptance.write_text(text)


def gentler_thresholds(case: Case) -> None:
    case.sign_again("cpu", thresholds={"mean_kl": 9.0, "max_kl": 9.0})


def failing_numbers(case: Case) -> None:
    metrics = read_record(case.receipt("cpu"))["metrics"]
    case.sign_again("cpu", metrics={**metrics, "mean_kl": 0.5})


def wrong_answer(case: Case) -> None:
    golden = read_record(case.receipt("cpu"))["golden"]
    case.sign_again("cpu", golden=[{**golden[0], "passed": False}, *golden[1:]])


def fewer_prompts(case: Case) -> None:
    case.sign_again("cpu", golden=read_record(case.receipt("cpu"))["golden"][1:])


@pytest.mark.parametrize(
    ("cheat", "told"),
    [
        (unsigned, "cpu: .*nobody signed this receipt"),
        (written_by_hand, "gpu: .*nobody signed this receipt"),
        (blocked_by_hand, "cpu: .*edited: a blocked row has no signer and no envelope"),
        (failure_hidden_as_blocked, "cpu: blocked, and yet it can run here"),
        (edited_receipt, "cpu: .*it is not the receipt that was signed"),
        (edited_envelope, "cpu: .*(the envelope was edited|not a signed envelope)"),
        (stale, "cpu: stale, it is about another artifact"),
        (other_golden, "cpu: it answers other golden prompts"),
        (other_reference, "cpu: it was compared with another reference"),
        (other_validator, "cpu: another validator's code made it"),
        (of_another_variant, "cpu: copied, .* phi3-tiny/openvino-int8/cpu"),
        (of_another_row, "gpu: .*the envelope is another row's"),
        (standin_as_device, "gpu: 'passed', but CPU executed it, GPU must have"),
        (gentler_gates, "cpu: its thresholds are not the current gates"),
        (gentler_thresholds, "cpu: its thresholds are not the current gates"),
        (failing_numbers, "cpu: 'passed', but its mean_kl is 0.5"),
        (wrong_answer, "cpu: 'passed', but golden prompt guide-introduction did not"),
        (fewer_prompts, "cpu: 'passed', but not every golden prompt is in it"),
    ],
    ids=lambda one: one.__name__ if callable(one) else "",
)
def test_a_receipt_that_is_not_what_it_seems_is_refused_by_name(
    case: Case, cheat: Callable[[Case], None], told: str
) -> None:
    cheat(case)
    with pytest.raises(GateError, match=told):
        case.gate()
    assert not (case.folder / "verdict").exists()


def test_only_the_rows_key_counts_where_a_key_is_asked_for(case: Case, tmp_path: Path) -> None:
    keys.new_key(tmp_path / "lab.key", tmp_path / "lab.pub")
    case.rows["cpu"] = replace(case.rows["cpu"], key=str(tmp_path / "lab.pub"))
    expected = expect_of(case.build(), **case.told())
    row = expected.rows["cpu"]
    assert row.key is not None
    _, against = scrutinize(case.receipt("cpu"), row, expected, [row.key])
    assert [refusal.name for refusal in against] == ["unknown-signer"]
    lab = keys.load_private(tmp_path / "lab.key")
    write_signed(case.receipt("cpu"), read_record(case.receipt("cpu")), lab)
    receipt, against = scrutinize(case.receipt("cpu"), row, expected, [row.key])
    assert against == ()
    assert receipt is not None and receipt["signer"]["occasional"] is False
