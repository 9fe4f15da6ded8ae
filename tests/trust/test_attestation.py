"""Keys stay private, envelopes hold what was signed, statements are in-toto's."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from phiforge.trust import AttestationError, keys
from phiforge.trust import statement as statements
from phiforge.trust.envelope import PAYLOAD_TYPE, peek, sign, verify
from phiforge.trust.statement import TEST_RESULT, statement

ROOT = Path(__file__).parents[2]
SIGNER = keys.occasional()
SAID = statement({"phi3-tiny/openvino-int4": "a" * 64}, "https://example.org/said/v1", {"so": 1})
RECEIPT: dict[str, Any] = {
    "model": "phi3-tiny",
    "variant": "openvino-int4",
    "device": "cpu",
    "verdict": "failed",
    "artifact_sha256": "a" * 64,
    "golden_sha256": "b" * 64,
    "reference_sha256": "c" * 64,
    "acceptance_sha256": None,
    "golden": [{"id": "one", "passed": True}, {"id": "two", "passed": False}],
    "failures": [{"name": "wrong-answer", "prompt": "two"}, {"name": "mean-kl", "prompt": None}],
}


def new_key(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "phiforge", "new-key", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def refused(name: str) -> Any:
    return pytest.raises(AttestationError, check=lambda error: error.name == name)


def test_a_key_pair_is_made_for_its_owner_only_and_signs(tmp_path: Path) -> None:
    private, public = tmp_path / "runner.key", tmp_path / "runner.pub"
    made = new_key("--private", private, "--public", public)
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
    inside = new_key("--private", "artifacts/keys/runner.key", "--public", public)
    assert inside.returncode == 1
    assert inside.stderr.startswith("error: artifacts/keys/runner.key: a private key must not lie")
    assert not (ROOT / "artifacts/keys").exists() and not public.exists()
    public.write_text("here already")
    taken = new_key("--private", tmp_path / "runner.key", "--public", public)
    assert taken.returncode == 1 and "a file is here already" in taken.stderr
    assert len(taken.stderr.splitlines()) == 1
    assert not (tmp_path / "runner.key").exists()


def test_a_key_with_a_password_needs_it(tmp_path: Path) -> None:
    private, public = tmp_path / "runner.key", tmp_path / "runner.pub"
    made = new_key(
        "--private", private, "--public", public, PHIFORGE_RUNNER_KEY_PASSWORD="open sesame"
    )
    assert made.returncode == 0, made.stderr
    assert "ENCRYPTED" in private.read_text()
    assert keys.load_private(private, b"open sesame").public_key == keys.read_public(public)
    with refused("wrong-password"):
        keys.load_private(private, b"open barley")
    with refused("wrong-password"):
        keys.load_private(private)


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
    other = keys.occasional().public_key
    assert peek(envelope) == (SAID, (SIGNER.public_key.keyid,))
    assert verify(envelope, [other, SIGNER.public_key]) == SAID
    for known in ([], [other]):
        with refused("unknown-signer"):
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
            with pytest.raises(AttestationError):
                verify(parsed, [SIGNER.public_key])
            forged += 1
    assert forged > len(text) // 2


def test_edits_are_told_by_name() -> None:
    envelope = sign(SAID, SIGNER)
    said = json.loads(base64.b64decode(envelope["payload"]))
    other = base64.b64encode(json.dumps({**said, "predicate": {"so": 2}}).encode()).decode()
    with refused("bad-signature"):
        verify({**envelope, "payload": other}, [SIGNER.public_key])
    with refused("malformed-envelope"):
        verify({**envelope, "signatures": []}, [SIGNER.public_key])
    with refused("malformed-envelope"):
        verify({"receipt": "passed"}, [SIGNER.public_key])
    with refused("not-in-toto"):
        verify({**envelope, "payloadType": "text/plain"}, [SIGNER.public_key])


def test_what_is_not_a_statement_is_not_signed_nor_believed() -> None:
    assert sign(SAID, SIGNER)["payloadType"] == PAYLOAD_TYPE
    for change in ({"subject": []}, {"_type": "x"}, {"predicate": {}}, {"more": 1}):
        with refused("not-in-toto"):
            sign({**SAID, **change}, SIGNER)
    with refused("not-in-toto"):
        sign({**SAID, "predicateType": TEST_RESULT, "predicate": {"verdict": "ok"}}, SIGNER)


def test_a_test_result_names_every_digest() -> None:
    made = statements.test_result(RECEIPT, "d" * 64)
    assert made["subject"] == [{"name": "phi3-tiny/openvino-int4", "digest": {"sha256": "a" * 64}}]
    predicate = made["predicate"]
    named = {one["name"]: one["digest"]["sha256"] for one in predicate["configuration"]}
    assert named == {"cpu.json": "d" * 64, "golden-prompts": "b" * 64, "reference": "c" * 64}
    assert predicate["result"] == "FAILED"
    assert predicate["passedTests"] == ["one"]
    assert predicate["failedTests"] == ["two", "mean-kl"]
    with refused("not-a-result"):
        statements.test_result({**RECEIPT, "verdict": "blocked"}, "d" * 64)
