"""Spoilt release folders: each is refused by name, from a minimal environment."""

import base64
import hashlib
import json
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from support.checkout import Checkout
from support.releasing import (
    NOW,
    SIGNED_VARIANT,
    Certified,
    Verifier,
    edit,
    make_certified,
    stage,
    stage_command,
    write_pair,
)

VARIANT = SIGNED_VARIANT
WEIGHTS = "openvino_model.bin"


def rewrite_checksums(release: Path) -> None:
    """What a careful attacker does: make the checksums fit again."""
    listed = [line[66:] for line in (release / "SHA256SUMS").read_text().splitlines()]
    digests = {name: hashlib.sha256((release / name).read_bytes()).hexdigest() for name in listed}
    text = "".join(f"{digests[name]}  {name}\n" for name in listed)
    (release / "SHA256SUMS").write_text(text)


def flip_a_byte(release: Path) -> None:
    data = bytearray((release / WEIGHTS).read_bytes())
    data[len(data) // 2] ^= 1
    (release / WEIGHTS).write_bytes(data)


def swap_two_files(release: Path) -> None:
    one, other = release / "openvino_tokenizer.bin", release / "openvino_detokenizer.bin"
    aside = release.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def remove_a_receipt(release: Path) -> None:
    (release / "evidence/receipts/npu.json").unlink()


def remove_a_receipt_from_the_gate_too(release: Path) -> None:
    for name in ("npu-standin.json", "npu-standin.dsse.json"):
        (release / "evidence/receipts" / name).unlink()
    edit(release / "evidence/gate.json", lambda gate: gate["receipts"].pop("npu-standin"))


def edit_a_receipt(release: Path) -> None:
    def better(receipt: Any) -> None:
        receipt["metrics"]["mean_kl"] = 0.0

    edit(release / "evidence/receipts/npu-standin.json", better)


def pass_a_blocked_receipt(release: Path) -> None:
    def passed(receipt: Any) -> None:
        receipt.update(verdict="passed", reason="")

    edit(release / "evidence/receipts/npu.json", passed)


def add_a_file(release: Path) -> None:
    (release / "modeling_phi3.py").write_text("print('hello')\n")


def add_evidence(release: Path) -> None:
    (release / "evidence/receipts/dml.json").write_text("{}\n")


def edit_the_manifest(release: Path) -> None:
    edit(release / "MANIFEST.json", lambda manifest: manifest.update(license="Apache-2.0"))


def edit_the_manifest_and_the_checksums(release: Path) -> None:
    edit_the_manifest(release)
    rewrite_checksums(release)


def flip_a_byte_and_fix_the_checksums(release: Path) -> None:
    flip_a_byte(release)

    def describe(manifest: Any) -> None:
        for entry in manifest["files"]:
            data = (release / entry["path"]).read_bytes()
            entry.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))

    edit(release / "MANIFEST.json", describe)
    rewrite_checksums(release)


def edit_the_card(release: Path) -> None:
    card = release / "README.md"
    card.write_text(card.read_text().replace("candidate", "stable"))


def edit_the_provenance(release: Path) -> None:
    def other_builder(envelope: Any) -> None:
        payload = base64.b64decode(envelope["payload"])
        edited = payload.replace(b"urn:test:builder", b"urn:best:builder")
        assert edited != payload
        envelope["payload"] = base64.b64encode(edited).decode()

    edit(release / "evidence/provenance.dsse.json", other_builder)


def raise_the_version(release: Path) -> None:
    edit(release / "evidence/release.json", lambda record: record.update(version="9.0.0"))


def remove(name: str) -> Callable[[Path], None]:
    return lambda release: (release / name).unlink()


SPOILT: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_byte, "changed-file"),
    (swap_two_files, "changed-file"),
    (remove_a_receipt, "missing-receipt"),
    (remove_a_receipt_from_the_gate_too, "missing-evidence"),
    (edit_a_receipt, "changed-receipt"),
    (pass_a_blocked_receipt, "changed-receipt"),
    (add_a_file, "extra-file"),
    (add_evidence, "extra-file"),
    (edit_the_manifest, "changed-file"),
    (edit_the_manifest_and_the_checksums, "inconsistent-provenance"),
    (flip_a_byte_and_fix_the_checksums, "inconsistent-signature"),
    (edit_the_card, "changed-evidence"),
    (edit_the_provenance, "bad-signature"),
    (raise_the_version, "inconsistent-provenance"),
    (remove("evidence/provenance.dsse.json"), "missing-file"),
    (remove("evidence/model.sig"), "missing-file"),
    (remove("evidence/receipts/npu-standin.dsse.json"), "unsigned-receipt"),
    (remove("evidence/sbom.cdx.json"), "missing-file"),
    (remove("evidence/gate.json"), "missing-file"),
    (remove("README.md"), "missing-file"),
    (remove("LICENSE"), "missing-file"),
]


@pytest.mark.parametrize(
    ("spoil", "finding"), SPOILT, ids=[f"{i}-{name}" for i, (_, name) in enumerate(SPOILT)]
)
def test_what_was_changed_is_named(
    verifier: Verifier,
    received: Path,
    certified: Certified,
    spoil: Callable[[Path], None],
    finding: str,
) -> None:
    assert verifier.findings(received, "--key", str(certified.public)) == []
    spoil(received)
    assert finding in verifier.findings(received, "--key", str(certified.public))


def test_what_a_download_from_a_hub_adds_is_told(
    verifier: Verifier, received: Path, certified: Certified
) -> None:
    notes = received / ".cache/huggingface"
    (notes / "download").mkdir(parents=True)
    (notes / ".gitignore").write_text("*")
    (notes / "download/config.json.metadata").write_text("0\n1\n2\n")
    (received / ".gitattributes").write_text("*.bin filter=lfs\n")
    done = verifier.run(received, "--key", str(certified.public))
    assert done.returncode == 0 and done.stdout.splitlines()[-1].startswith("VERIFIED: ")
    assert done.stdout.splitlines()[0] == (
        "note hub-files: left by a download from a Hub, no part of the release: "
        ".gitattributes, 2 files below .cache/huggingface/"
    )
    told = json.loads(verifier.run(received, "--json", "--key", str(certified.public)).stdout)
    assert told["added"] == [
        ".cache/huggingface/.gitignore",
        ".cache/huggingface/download/config.json.metadata",
        ".gitattributes",
    ]
    assert [one["name"] for one in told["findings"]] == ["hub-files"]


def test_attributes_that_a_release_lists_are_held_against_their_digest(
    verifier: Verifier, received: Path
) -> None:
    listed = hashlib.sha256(b"its own").hexdigest()
    with (received / "SHA256SUMS").open("a") as stream:
        stream.write(f"{listed}  .gitattributes\n")
    edit(
        received / "MANIFEST.json",
        lambda manifest: manifest["files"].append(
            {"path": ".gitattributes", "sha256": listed, "size": len(b"its own")}
        ),
    )
    for content, changed in ((b"its own", False), (b"another", True)):
        (received / ".gitattributes").write_bytes(content)
        lines = verifier.run(received).stdout.splitlines()
        assert any("changed-file: .gitattributes" in line for line in lines) is changed
        assert not any("hub-files" in line for line in lines)


def test_a_wrong_key_is_named(verifier: Verifier, received: Path, tmp_path: Path) -> None:
    _, other = write_pair(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    assert verifier.findings(received, "--key", str(other)) == ["wrong-key"]


def test_an_attackers_whole_release_is_refused_for_its_key(
    pipeline: Checkout, verifier: Verifier, certified: Certified, tmp_path: Path
) -> None:
    into = tmp_path / "m" / VARIANT
    stage(pipeline, VARIANT, into)  # signed by a key of their own
    assert verifier.findings(into) == []
    assert verifier.findings(into, "--key", str(certified.public)) == ["wrong-key"]
    # Now they say that the key was ours, and ship it.
    ours = hashlib.sha256(_der(certified.public)).hexdigest()
    keys = into / "evidence/keys"
    next(keys.iterdir()).unlink()
    shutil.copyfile(certified.public, keys / f"{ours}.pub")
    edit(into / "evidence/release.json", lambda record: record["signer"].update(keyid=ours))
    assert "wrong-key" in verifier.findings(into, "--key", str(certified.public))


def _der(pem: Path) -> bytes:
    return base64.b64decode("".join(pem.read_text().splitlines()[1:-1]))


def test_an_expired_certificate_is_named(
    pipeline: Checkout,
    verifier: Verifier,
    received: Path,
    certified: Certified,
    tmp_path: Path,
) -> None:
    later = (NOW + timedelta(days=60)).strftime("%Y-%m-%d")
    for trust in ([], ["--ca", str(certified.authority)], ["--key", str(certified.public)]):
        assert verifier.findings(received, *trust) == []
        assert verifier.findings(received, *trust, "--at", later) == ["expired-certificate"]
    earlier = (NOW - timedelta(days=60)).strftime("%Y-%m-%d")
    assert verifier.findings(received, "--at", earlier) == ["future-certificate"]
    expired = make_certified(tmp_path / "expired", days=-1)
    into = tmp_path / "m" / VARIANT
    done = stage(pipeline, VARIANT, into, signing=expired.signing(), check=False)
    assert done.returncode == 1 and "expired-certificate" in done.stderr
    assert not into.exists()


def test_a_certificate_of_another_authority_is_named(
    verifier: Verifier, received: Path, tmp_path: Path
) -> None:
    other = make_certified(tmp_path / "other")
    assert verifier.findings(received, "--ca", str(other.authority)) == ["untrusted-certificate"]


def test_a_candidate_is_not_stable(
    verifier: Verifier, received: Path, certified: Certified
) -> None:
    found = verifier.findings(received, "--key", str(certified.public), "--channel", "stable")
    assert set(found) == {"policy"}
    told = verifier.run(received, "--key", str(certified.public), "--channel", "stable").stdout
    assert "stable needs npu to pass" in told and "was not promoted to stable" in told


def test_a_killed_release_is_whole_or_absent_and_the_next_run_completes(
    pipeline: Checkout, verifier: Verifier, tmp_path: Path
) -> None:
    into = tmp_path / "m" / VARIANT
    dice = random.Random(4)
    started = time.monotonic()
    stage(pipeline, VARIANT, tmp_path / "timed" / VARIANT)
    takes = time.monotonic() - started
    for _ in range(5):
        running = subprocess.Popen(
            stage_command(pipeline.folder, VARIANT, into),
            cwd=pipeline.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(takes * dice.uniform(0.6, 1.05))
        running.send_signal(signal.SIGKILL)
        running.wait()
        if into.exists():
            assert verifier.findings(into) == []
    stage(pipeline, VARIANT, into)
    assert verifier.findings(into) == []
    assert not list(into.parent.glob(".*.partial"))
