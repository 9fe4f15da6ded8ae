"""One table of edits and findings: whatever was changed in a release is refused by name.

The releases are small ones, verified in this process. That the one-file verifier says the same
where there is only the folder is in tests/release/test_evidence.py.
"""

import base64
import copy
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from phiforge.artifact.record import canonical
from phiforge.receipts.signed_receipt import write_signed
from phiforge.release.signing import ReleaseKey
from phiforge.trust import keys
from phiforge.trust.envelope import pre_authentication, sign
from phiforge.trust.statement import PROVENANCE, TEST_RESULT, statement
from phiforge.verify.revocations import Revocation, with_notice, without_notice
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.release_edits import (
    Edit,
    both,
    edit,
    fit_the_lists,
    flipped,
    in_payload,
    link,
    listed,
    pipe,
    remove,
    replaced,
    sparse,
    updated,
    write,
)
from support.small_release import SmallVariant, refusals

WEIGHTS = "weights.bin"
RECEIPT = "evidence/receipts/npu-standin.json"
BYTE = flipped("weights.bin")


def link_a_folder(release: Path) -> None:
    (release / "evidence").rename(release.with_name("elsewhere"))
    (release / "evidence").symlink_to(release.with_name("elsewhere"))


def better_receipt(release: Path) -> None:
    """Sign a receipt of other numbers, and let the gate's verdict name it."""
    path = release / RECEIPT
    receipt = json.loads(path.read_text())
    receipt["metrics"]["mean_kl"] = 0.5
    write_signed(path, receipt, keys.ephemeral())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    updated("evidence/gate.json", "receipts", "npu-standin", sha256=digest)(release)


def remove_a_row(release: Path) -> None:
    remove(RECEIPT)(release)
    remove("evidence/receipts/npu-standin.dsse.json")(release)
    edit(release / "evidence/gate.json", lambda gate: gate["receipts"].pop("npu-standin"))


def notice_without_a_revocation(release: Path) -> None:
    card = release / "README.md"
    card.write_text(with_notice(card.read_text(), Revocation("m/v", "1", "0", "", "", "", {})))


def many(release: Path) -> None:
    for number in range(2_001):
        (release / f"f{number}").touch()


def name_of_bytes(release: Path) -> None:
    Path(os.fsdecode(os.fsencode(release) + b"/weights\xff.bin")).touch()


DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
EDITS: list[tuple[str, Edit, str]] = [
    ("a byte of the weights", BYTE, "changed-file"),
    ("a byte, and the lists", both(BYTE, fit_the_lists), "inconsistent-provenance"),
    ("a byte, and the lists, in model.sig", both(BYTE, fit_the_lists),
     "inconsistent-signature"),
    ("the manifest", updated("MANIFEST.json", license="Apache-2.0"), "changed-file"),
    ("the manifest's precision", updated("MANIFEST.json", precision="fp16"), "inconsistent-gate"),
    ("the manifest's source", updated("MANIFEST.json", "source", "files", 0, sha256="0" * 64),
     "inconsistent-provenance"),
    ("another file", write("modeling_phi3.py", b"print()"), "extra-file"),
    ("another piece of evidence", write("evidence/notes.json", b"{}"), "extra-file"),
    ("another receipt", write("evidence/receipts/dml.json", b"{}"), "extra-receipt"),
    ("another envelope", write("evidence/receipts/dml.dsse.json", b"{}"), "missing-receipt"),
    ("an old scratch file", write("evidence/.promotion.dsse.json.1.partial"), "extra-file"),
    ("no license", remove("LICENSE"), "missing-file"),
    ("no card", remove("README.md"), "missing-file"),
    ("no provenance", remove("evidence/provenance.dsse.json"), "missing-file"),
    ("no model signature", remove("evidence/model.sig"), "missing-file"),
    ("no bill", remove("evidence/sbom.cdx.json"), "missing-file"),
    ("no verdict", remove("evidence/gate.json"), "missing-file"),
    ("no receipt", remove(RECEIPT), "missing-receipt"),
    ("no envelope", remove("evidence/receipts/npu-standin.dsse.json"), "unsigned-receipt"),
    ("no row", remove_a_row, "missing-evidence"),
    ("the card", replaced("README.md", "a card", "a stable card"), "changed-evidence"),
    ("a notice without a revocation", notice_without_a_revocation, "changed-evidence"),
    ("the version", updated("evidence/release.json", version="9.0.0"), "inconsistent-provenance"),
    ("the record's artifact", updated("evidence/release.json", artifact_sha256="0" * 64),
     "inconsistent-provenance"),
    ("the bill", updated("evidence/sbom.cdx.json", "metadata", "component", hashes=[]),
     "inconsistent-bill"),
    ("the provenance", in_payload("evidence/provenance.dsse.json", b"urn:test", b"urn:best"),
     "bad-signature"),
    ("a receipt", updated(RECEIPT, validated_tokens=99), "changed-receipt"),
    ("a receipt and the verdict", better_receipt, "failing-numbers"),
    ("a verdict", updated(RECEIPT, verdict="blocked"), "changed-receipt"),
    ("the gates", updated("evidence/gate.json", "policy", "gates", "limits", mean_kl=9.0),
     "other-thresholds"),
    ("the golden answers",
     updated("evidence/gate.json", "policy", "golden", "prompts", 0, expected="Bergen."),
     "inconsistent-gate"),
    ("the rows' keys", updated("evidence/gate.json", "policy", "rows", "cpu", keyid="0" * 64),
     "wrong-key"),
    ("what a row executes", updated("evidence/gate.json", "policy", "rows", "cpu", executes="NPU"),
     "wrong-device"),
    ("the judged artifact", updated("evidence/gate.json", artifact_sha256="0" * 64),
     "inconsistent-gate"),
    ("a path that climbs", listed("../../etc/passwd"), "hostile-name"),
    ("the same path twice", both(listed("a"), listed("a")), "duplicate-path"),
    ("a path that climbs in the manifest", updated("MANIFEST.json", "files", 1, path="../L"),
     "hostile-name"),
    ("a link to a file", link(WEIGHTS, "/etc/passwd"), "symlink"),
    ("a link to a folder", link_a_folder, "symlink"),
    ("a link among the Hub client's notes", link(".cache/huggingface/x", "/etc/passwd"), "symlink"),
    ("a named pipe", pipe("config.json"), "not-a-regular-file"),
    ("huge checksums", sparse("SHA256SUMS"), "oversized-file"),
    ("a huge manifest", sparse("MANIFEST.json"), "oversized-file"),
    ("a huge receipt", sparse("evidence/receipts/npu-4000.json"), "oversized-file"),
    ("a huge envelope", sparse("evidence/receipts/cpu.dsse.json"), "oversized-file"),
    ("a huge card", sparse("README.md"), "oversized-file"),
    ("huge weights", sparse(WEIGHTS), "changed-file"),
    ("huge weights, and the lists", both(sparse(WEIGHTS), fit_the_lists),
     "inconsistent-provenance"),
    ("another huge file", sparse("more.bin"), "extra-file"),
    ("another cache", write(".cache/other/notes"), "extra-file"),
    ("a cache in a folder", write("evidence/.cache/huggingface/x"), "extra-file"),
    ("a file for the cache", write(".cache/huggingface"), "extra-file"),
    ("much among the notes", write(".cache/huggingface/x", bytes(64_001)), "oversized-file"),
    ("large attributes", write(".gitattributes", bytes(64_001)), "oversized-file"),
    ("attributes in a folder", write("evidence/.gitattributes"), "extra-file"),
    ("revocations of another form", write("revocations.json", b"{}"), "malformed"),
    ("revocations that are no text", write("revocations.json", b"\xff"), "not-utf-8"),
    ("huge revocations", sparse("revocations.json"), "oversized-file"),
    ("a pipe for revocations", pipe("../revocations.json"), "not-a-regular-file"),
    ("a folder for revocations", write("../revocations.json/x"), "not-a-regular-file"),
    ("revocations that lead nowhere", link("../revocations.json", "nowhere"), "unreadable-file"),
    ("revocations in a folder", write("evidence/revocations.json", b"{}"), "extra-file"),
    ("very many files", many, "too-many-files"),
    ("very deep folders", lambda release: (release / "/".join("d" * 40)).mkdir(parents=True),
     "not-a-regular-file"),
    ("deep JSON", write("MANIFEST.json", DEEP), "deep-json"),
    ("deep JSON in an envelope", write("evidence/provenance.dsse.json", DEEP), "deep-json"),
    ("checksums that are no text", write("SHA256SUMS", b"\xff\xfe"), "not-utf-8"),
    ("checksums of another form", write("SHA256SUMS", b"MD5 (x) = 1\n"), "malformed-checksums"),
    ("a Cyrillic letter", write("c\u043enfig.json"), "hostile-name"),
    ("an invisible letter", write("config\u200b.json"), "hostile-name"),
    ("a newline", write("a\nb"), "hostile-name"),
    ("a name that is no text", name_of_bytes, "hostile-name"),
    ("names that differ in case", write("CONFIG.json"), "hostile-name"),
    ("a key id that is a path", updated("evidence/release.json", "signer", keyid="../../passwd"),
     "malformed"),
    ("signatures that are text", updated("evidence/model.sig", "dsseEnvelope", signatures="x"),
     "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "finding"),
    [(change, finding) for _, change, finding in EDITS],
    ids=[name.replace(" ", "-") for name, _, _ in EDITS],
)
def test_what_was_changed_is_named(release: Path, trust: Trust, change: Edit, finding: str) -> None:
    assert refusals(verify(release, trust)) == []
    change(release)
    started = time.monotonic()
    assert finding in refusals(verify(release, trust))
    assert time.monotonic() - started < 5


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a JSON value, with each key or index in it."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for step, inner in list(items):
        yield value, step
        if isinstance(inner, dict | list):
            yield from places(inner)


def test_a_value_of_another_type_is_refused_and_never_a_traceback(
    original: Path, release: Path, trust: Trust, key: ReleaseKey
) -> None:
    """Documents are edited as they are; signed statements are signed again."""
    for path in [*sorted(original.rglob("*.json")), original / "evidence/model.sig"]:
        name = path.relative_to(original)
        document = json.loads(path.read_text())
        enveloped = path.name.endswith(".dsse.json") and "receipts" not in name.parts
        content = json.loads(base64.b64decode(document["payload"])) if enveloped else document
        for index, _ in enumerate(places(content)):
            changed = copy.deepcopy(content)
            container, step = list(places(changed))[index]
            container[step] = (["a"], {"a": 1}, 7)[index % 3]
            if enveloped:
                data = canonical(changed).encode()
                signature = base64.b64encode(key.signer.sign(pre_authentication(data))).decode()
                signatures = [{"keyid": key.keyid, "sig": signature}]
                payload = base64.b64encode(data).decode()
                changed = {**document, "payload": payload, "signatures": signatures}
            (release / name).write_text(json.dumps(changed))
            verification = verify(release, trust)
            assert verification.refused or enveloped or path.name == "sbom.cdx.json", (name, step)
        shutil.copyfile(path, release / name)


def test_a_forgers_gigabytes_are_not_read(
    variant: SmallVariant, trust: Trust, tmp_path: Path
) -> None:
    release = variant.release(into=tmp_path / "forged")  # signed by a key of their own
    sparse(WEIGHTS)(release)
    fit_the_lists(release)
    started = time.monotonic()
    assert "wrong-key" in refusals(verify(release, trust))
    assert time.monotonic() - started < 5


def test_a_candidate_is_not_stable(release: Path, trust: Trust) -> None:
    verification = verify(release, trust, channel="stable")
    assert set(refusals(verification)) == {"policy"}
    lines = "\n".join(finding.line() for finding in verification.findings)
    assert "stable needs npu-4000 to pass" in lines and "was not promoted to stable" in lines
    assert "cpu: stable needs a receipt that someone vouches for" in lines


REPRODUCED = {"result": "PASSED", "configuration": [], "passedTests": ["same"], "failedTests": []}


@pytest.mark.parametrize(
    ("predicate_type", "change", "findings"),
    [
        (TEST_RESULT, {}, []),
        (TEST_RESULT, {"result": "FAILED"}, ["inconsistent-evidence"]),
        (TEST_RESULT, {"failedTests": ["other bytes"]}, ["inconsistent-evidence"]),
        (TEST_RESULT, {"passedTests": []}, ["inconsistent-evidence"]),
        (TEST_RESULT, {"passedTests": "same"}, ["malformed"]),
        (PROVENANCE, {}, ["malformed"]),
    ],
)
def test_a_reproduction_is_held_to_its_predicate(
    release: Path,
    key: ReleaseKey,
    trust: Trust,
    predicate_type: str,
    change: dict[str, Any],
    findings: list[str],
) -> None:
    artifact = hashlib.sha256((release / "SHA256SUMS").read_bytes()).hexdigest()
    reproduced = statement({"m/v": artifact}, predicate_type, {**REPRODUCED, **change})
    path = release / "evidence/reproduce.dsse.json"
    path.write_text(json.dumps(key.sign_statement(reproduced)))
    assert refusals(verify(release, trust)) == findings
    path.write_text(json.dumps(sign(reproduced, keys.ephemeral())))
    assert refusals(verify(release, trust)) == ["wrong-key"]


def test_what_a_download_from_a_hub_adds_is_named(release: Path, trust: Trust) -> None:
    for name in (".cache/huggingface/.gitignore", ".cache/huggingface/download/c.metadata"):
        write(name, b"*")(release)
    write(".gitattributes", b"*.bin filter=lfs\n")(release)
    verification = verify(release, trust)
    (finding,) = verification.findings
    assert finding.line() == (
        "note hub-files: left by a download from a Hub, no part of the release: "
        ".gitattributes, 2 files below .cache/huggingface/"
    )
    assert verification.added == (
        ".cache/huggingface/.gitignore",
        ".cache/huggingface/download/c.metadata",
        ".gitattributes",
    )


REVOCATION = Revocation("m/v", "0.1.0", "0" * 64, "a <b> [c](d)\n---\n# e", "k", "", {})
CARDS = [
    "---\nlicense: mit\n---\n# title\n\ntext\n",
    "# no metadata\n",
    "---\nnever ends\n",
    "---\nlicense: mit\n---\n",
]


@pytest.mark.parametrize("card", CARDS)
def test_a_revoked_card_says_it_once_and_can_be_had_as_it_was(card: str) -> None:
    revoked = with_notice(card, REVOCATION)
    assert revoked.count("> **Revoked.** Version 0.1.0 ") == 1
    assert r"a \<b\> \[c\](d) --- \# e" in revoked, "the reason is one line of text"
    assert with_notice(revoked, REVOCATION) == revoked
    assert without_notice(revoked, REVOCATION) == without_notice(card, REVOCATION) == card
