"""Keys stay private, envelopes hold what was signed, and other libraries agree."""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.protobuf.json_format import ParseDict
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, SSlibKey

from phiforge.trust import TrustError, keys
from phiforge.trust.document import MAX_DOCUMENT, parse_json
from phiforge.trust.envelope import PAYLOAD_TYPE, open_envelope, sign
from phiforge.trust.statement import STATEMENT_TYPE, statement
from support.checkout import ROOT
from support.jobs import run

SIGNER = keys.ephemeral()
SAID = statement({"phi3-tiny/openvino-int4": "a" * 64}, "https://example.org/said/v1", {"so": 1})


def verify(envelope: Any, known: list[keys.PublicKey]) -> dict[str, Any]:
    return open_envelope(envelope, known)[0]


def refused(name: str) -> Any:
    return pytest.raises(TrustError, check=lambda error: error.name == name)


def test_a_key_pair_is_made_for_its_owner_only_and_signs(tmp_path: Path) -> None:
    private, public = tmp_path / "runner.key", tmp_path / "runner.pub"
    made = run("new-key", "--private", private, "--public", public)
    assert made.returncode == 0, made.stderr
    assert private.stat().st_mode & 0o777 == 0o600
    assert private.read_text() not in made.stdout + made.stderr
    signer, key = keys.load_private(private), keys.read_public(public)
    assert keys.load_public(public.read_text()).keyid == key.keyid == signer.public_key.keyid
    assert key.keyid in made.stdout
    der = subprocess.run(
        ["openssl", "pkey", "-pubin", "-in", public, "-outform", "DER"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    fingerprint = subprocess.run(["sha256sum"], input=der, capture_output=True, check=True).stdout
    assert fingerprint.decode().split()[0] == key.keyid
    assert verify(sign(SAID, signer), [key]) == SAID


def test_new_key_refuses_artifacts_and_existing_files(tmp_path: Path) -> None:
    public = tmp_path / "runner.pub"
    inside = run("new-key", "--private", "artifacts/keys/runner.key", "--public", public)
    assert inside.returncode == 1
    assert inside.stderr.startswith("error: artifacts/keys/runner.key: a private key must not lie")
    assert not (ROOT / "artifacts/keys").exists() and not public.exists()
    public.write_text("here already")
    taken = run("new-key", "--private", tmp_path / "runner.key", "--public", public)
    assert taken.returncode == 1 and "the file exists" in taken.stderr
    assert len(taken.stderr.splitlines()) == 1
    assert not (tmp_path / "runner.key").exists()


@pytest.mark.parametrize(
    ("kind", "variable"), [("ed25519", "PHIFORGE_RUNNER_KEY"), ("ecdsa", "PHIFORGE_SIGNING_KEY")]
)
def test_a_key_with_a_password_needs_it(tmp_path: Path, kind: str, variable: str) -> None:
    private, public = tmp_path / "a.key", tmp_path / "a.pub"
    made = run(
        "new-key",
        "--kind", kind, "--private", private, "--public", public,
        **{f"{variable}_PASSWORD": "open sesame"},
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "ENCRYPTED" in private.read_text()
    assert keys.load_private(private, b"open sesame").public_key == keys.read_public(public)
    for password in (b"open barley", None):
        with refused("wrong-password"):
            keys.load_private(private, password)


def test_the_environment_names_key_and_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys.private_from_environment(keys.RUNNER_KEY) is None
    made = keys.new_key(tmp_path / "a.key", tmp_path / "a.pub", b"secret")
    monkeypatch.setenv(keys.RUNNER_KEY, str(tmp_path / "a.key"))
    monkeypatch.setenv(f"{keys.RUNNER_KEY}_PASSWORD", "secret")
    signer = keys.private_from_environment(keys.RUNNER_KEY)
    assert signer is not None and signer.public_key == made


def test_keys_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    private = tmp_path / "runner.key"
    with refused("unreadable-key"):
        keys.load_private(private)
    private.write_text("not a key")
    private.chmod(0o600)
    with refused("bad-key"):
        keys.load_private(private)
    rsa = generate_private_key(65537, 2048)
    private.write_bytes(rsa.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with refused("bad-key"):
        keys.load_private(private)
    keys.new_key(tmp_path / "a.key", tmp_path / "a.pub")
    with refused("wrong-password"):
        keys.load_private(tmp_path / "a.key", b"none was set")
    (tmp_path / "a.key").chmod(0o644)
    with refused("readable-key"):
        keys.load_private(tmp_path / "a.key")
    with refused("key-in-artifacts"):
        keys.load_private(ROOT / "artifacts" / "a.key")
    with refused("bad-key"):
        keys.read_public(tmp_path / "a.key")


def test_only_a_known_signer_is_believed() -> None:
    envelope = sign(SAID, SIGNER)
    other = keys.ephemeral().public_key
    assert open_envelope(envelope, [other, SIGNER.public_key]) == (SAID, SIGNER.public_key)
    for known in ([], [other]):
        with refused("wrong-key"):
            verify(envelope, known)


def test_no_byte_of_an_envelope_can_be_edited() -> None:
    envelope = sign(SAID, SIGNER)
    text = json.dumps(envelope)
    forged = 0
    for index in range(len(text)):
        for character in ("A", " "):
            edited = text[:index] + character + text[index + 1 :]
            try:
                parsed = json.loads(edited)
            except ValueError:
                continue
            if parsed == envelope:
                continue
            with pytest.raises(TrustError):
                verify(parsed, [SIGNER.public_key])
            forged += 1
    assert forged > len(text) // 2


def payload(value: Any) -> str:
    return base64.b64encode(
        value if isinstance(value, bytes) else json.dumps(value).encode()
    ).decode()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"payload": payload({**SAID, "predicate": {"so": 2}})}, "bad-signature"),
        ({"payload": "?"}, "malformed"),
        ({"payload": []}, "malformed"),
        ({"signatures": []}, "malformed"),
        ({"signatures": {"keyid": "", "sig": ""}}, "malformed"),
        ({"signatures": [{"keyid": [], "sig": ""}]}, "malformed"),
        ({"signatures": [{"sig": "", "cert": ""}]}, "malformed"),
        ({"more": 1}, "malformed"),
        ({"payloadType": "text/plain"}, "malformed"),
    ],
)
def test_an_edited_envelope_is_refused_by_name(change: dict[str, Any], name: str) -> None:
    with refused(name):
        verify({**sign(SAID, SIGNER), **change}, [SIGNER.public_key])


@pytest.mark.parametrize(
    "change",
    [
        {"subject": []},
        {"subject": ["a"]},
        {"subject": [{"name": ["a"], "digest": {"sha256": "a"}}]},
        {"_type": "x"},
        {"predicate": {}},
        {"predicate": []},
        {"more": 1},
    ],
)
def test_what_is_not_a_statement_is_not_signed_nor_believed(change: dict[str, Any]) -> None:
    with refused("malformed"):
        sign({**SAID, **change}, SIGNER)
    signed = Envelope(json.dumps({**SAID, **change}).encode(), PAYLOAD_TYPE, {})
    signed.sign(CryptoSigner(SIGNER.private, SSlibKey.from_crypto(SIGNER.public_key.public)))
    envelope = signed.to_dict()
    envelope["signatures"][0]["keyid"] = ""
    with refused("malformed"):
        verify(envelope, [SIGNER.public_key])


@pytest.mark.parametrize("kind", keys.KINDS)
def test_securesystemslib_and_in_toto_read_what_we_write_and_we_what_they_write(kind: str) -> None:
    signer = keys.ephemeral(kind)
    public = SSlibKey.from_crypto(signer.public_key.public, signer.public_key.keyid)
    ours = Envelope.from_dict(sign(SAID, signer))
    ours.verify([public], 1)
    Statement.copy_from_pb(ParseDict(json.loads(ours.payload), StatementMessage())).validate()
    theirs = Envelope(json.dumps(SAID).encode(), PAYLOAD_TYPE, {})
    theirs.sign(CryptoSigner(signer.private, public))
    assert verify(theirs.to_dict(), [signer.public_key]) == SAID
    assert STATEMENT_TYPE == STATEMENT_TYPE_URI


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b'{"a":' + b"[" * 2_000_000 + b"]" * 1_000_000 + b"}", "deep-json"),
        (b'{"a": [' + b"[]," * 1_300_000 + b"[]]}", "oversized-file"),
        (b'{"a": "' + b"b" * MAX_DOCUMENT + b'"}', "oversized-file"),
        (b'{"a": 1, "a": 1}', "duplicate-key"),
        (b'{"a": "\xff"}', "not-utf-8"),
        (b'{"a": NaN}', "not-json"),
        (b'{"a": 1e999}', "not-json"),
        (b'{"a": ' + b"9" * 9999 + b"}", "not-json"),
        (b"[]", "not-json"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_is_bounded_in_size_depth_and_time(data: bytes, name: str) -> None:
    started = time.process_time()
    with refused(name):
        parse_json(data, "a document")
    assert time.process_time() - started < 2
