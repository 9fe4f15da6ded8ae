"""A receipt and its envelope belong together; whatever was changed since is told by name."""

from pathlib import Path
from typing import Any

import pytest
from test_validators_receipt import SUBJECT, passed

from phiforge.artifact.record import read_record, write_record
from phiforge.receipts.receipt import ReceiptError, blocked
from phiforge.receipts.receipt_files import envelope_path
from phiforge.receipts.signed_receipt import read_signed, write_signed
from phiforge.trust import AttestationError, keys

SIGNER = keys.occasional()


@pytest.fixture
def receipt(tmp_path: Path) -> Path:
    path = tmp_path / "npu.json"
    write_signed(path, passed(), SIGNER)
    return path


def refused(name: str) -> Any:
    return pytest.raises(AttestationError, check=lambda error: error.name == name)


def test_what_was_signed_is_read_again(receipt: Path) -> None:
    found = read_signed(receipt, [SIGNER.public_key])
    assert found == read_signed(receipt, None)
    assert found["verdict"] == "passed"
    assert found["signer"] == {
        "keyid": SIGNER.public_key.keyid,
        "public_key": keys.public_pem(SIGNER.public_key),
        "occasional": True,
    }


def test_a_runners_own_key_is_not_occasional(tmp_path: Path) -> None:
    keys.new_key(tmp_path / "a.key", tmp_path / "a.pub")
    write_signed(tmp_path / "npu.json", passed(), keys.load_private(tmp_path / "a.key"))
    key = keys.read_public(tmp_path / "a.pub")
    assert read_signed(tmp_path / "npu.json", [key])["signer"]["occasional"] is False


def test_another_signer_is_unknown(receipt: Path) -> None:
    with refused("unknown-signer"):
        read_signed(receipt, [keys.occasional().public_key])


def test_any_edit_of_the_receipt_is_seen(receipt: Path) -> None:
    receipt.write_text(receipt.read_text() + "\n")
    with refused("edited-receipt"):
        read_signed(receipt, None)


def test_an_edited_envelope_is_seen(receipt: Path) -> None:
    envelope = read_record(envelope_path(receipt))
    payload = envelope["payload"]
    write_record(envelope_path(receipt), {**envelope, "payload": payload[:-8] + payload[:8]})
    with refused("edited-envelope"):
        read_signed(receipt, None)
    envelope_path(receipt).write_text("{")
    with refused("malformed-envelope"):
        read_signed(receipt, None)


def test_a_receipt_written_by_hand_is_unsigned(receipt: Path) -> None:
    envelope_path(receipt).unlink()
    with refused("unsigned"):
        read_signed(receipt, None)


def test_another_rows_envelope_is_not_its_own(receipt: Path) -> None:
    other = receipt.with_name("gpu.json")
    other.write_bytes(receipt.read_bytes())
    envelope_path(other).write_bytes(envelope_path(receipt).read_bytes())
    with refused("other-receipt"):
        read_signed(other, None)


def test_a_blocked_receipt_has_no_envelope(receipt: Path) -> None:
    stale = envelope_path(receipt).read_bytes()
    write_signed(receipt, blocked(SUBJECT, "no NPU here", "run it where one is"), SIGNER)
    assert not envelope_path(receipt).exists()
    assert read_signed(receipt, [])["signer"] is None
    envelope_path(receipt).write_bytes(stale)
    with refused("edited-receipt"):
        read_signed(receipt, [])


def test_a_malformed_receipt_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ReceiptError, match="malformed"):
        write_signed(tmp_path / "npu.json", {**passed(), "verdict": "failed"}, SIGNER)
    assert list(tmp_path.iterdir()) == []
