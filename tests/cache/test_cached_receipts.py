"""A receipt that another agent signed is taken only where its row would accept it."""

import json
from pathlib import Path

import pytest

from phiforge.trust import keys
from support.agents import CheckedVariant, MakeAgent, only, statement_in


@pytest.fixture
def checked(tmp_path: Path) -> CheckedVariant:
    return CheckedVariant(tmp_path / "artifacts/work")


def test_a_standin_receipt_is_taken_and_the_gate_accepts_it(
    make: MakeAgent, checked: CheckedVariant
) -> None:
    first = make("first")
    second = make("second", first)
    signer = keys.load_private(first.private)
    checked.name_key("npu-standin", signer)  # the row's key, as a lab would name it
    checked.sign_standin(signer)
    only(first.put(checked.check()), "shared: phi3-tiny/openvino-int4/npu-standin")
    receipt = checked.receipt("npu-standin")
    bytes_then = receipt.read_bytes()
    for file in receipt.parent.glob("npu-standin.*"):
        file.unlink()
    assert second.command(checked.check(key=first.public)).take()
    assert receipt.read_bytes() == bytes_then
    release = checked.release()
    held = statement_in((release / "evidence/provenance.dsse.json").read_bytes())
    taken = {one["name"]: one for one in held["predicate"]["buildDefinition"]
             ["resolvedDependencies"] if one["name"].startswith("cache/")}  # fmt: skip
    described = taken["cache/checks/phi3-tiny/openvino-int4/npu-standin.json"]
    assert described["annotations"]["builder"] == "urn:test:first"
    assert described["annotations"]["keyid"] == first.keyid
    # A check that runs here makes another receipt, of which the note says nothing.
    checked.sign_standin(signer, validated_tokens=13)
    release = checked.release(into=checked.folder / "again")
    assert (
        b"cache/checks"
        not in json.dumps(
            statement_in((release / "evidence/provenance.dsse.json").read_bytes())
        ).encode()
    )


def test_a_receipt_by_another_key_than_its_row_names_is_not_taken(
    make: MakeAgent, checked: CheckedVariant
) -> None:
    first, third = make("first"), make("third")
    second = make("second", first)
    checked.sign_standin(keys.load_private(first.private))
    first.put(checked.check())
    answered = second.asked(checked.check(key=third.public), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "not taken: ", "wrong-key")


def test_a_receipt_by_a_key_that_is_not_configured_is_not_taken(
    make: MakeAgent, checked: CheckedVariant
) -> None:
    first = make("first")
    second = make("second", first)
    checked.sign_standin(keys.ephemeral())  # the entry is the first agent's, the receipt is not
    first.put(checked.check())
    answered = second.asked(checked.check(), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "not taken: ", "wrong-key")


def test_a_failed_receipt_is_not_shared(make: MakeAgent, checked: CheckedVariant) -> None:
    first = make("first")
    failures = [{"name": "not-finite", "what": "nan", "prompt": None}]
    signer = keys.load_private(first.private)
    checked.sign_standin(signer, verdict="failed", failures=failures, reason="nan")
    only(first.put(checked.check()), "not shared: ", "not-passed")


def test_a_receipt_of_other_code_is_stale(make: MakeAgent, checked: CheckedVariant) -> None:
    first = make("first")
    second = make("second", first)
    signer = keys.load_private(first.private)
    checked.sign_standin(signer, validator_sha256="0" * 64)
    first.put(checked.check())
    answered = second.asked(checked.check(), "take", scratch=None)
    assert "records" not in answered
    only(answered["notes"], "stale-receipt")


def test_device_rows_are_never_asked_for(make: MakeAgent, checked: CheckedVariant) -> None:
    first = make("first")
    answered = first.asked(checked.check("cpu"), "take", scratch=None)
    assert answered == {"notes": []}
