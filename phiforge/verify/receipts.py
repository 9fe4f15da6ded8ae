"""The receipts: signed, about this artifact, complete, and good enough for the channel.

The policy is the gate's (phiforge/receipts/gate.py), read again by someone who has only the folder.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import MAX_DOCUMENT, Folder, member
from phiforge.verify.payload import Payload
from phiforge.verify.signatures import open_envelope, read_key

RECEIPTS = "evidence/receipts/"
GATE = "evidence/gate.json"
ENVELOPE = ".dsse.json"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
_RESULTS = {"passed": "PASSED", "failed": "FAILED"}


@dataclass(frozen=True)
class Receipt:
    """A receipt that was read, and whose signature holds if it has one.

    Attributes:
        keyid: whose signature; None: blocked, nothing to sign.
        occasional: that key was made for the one check: it shows edits, not who signed.
    """

    row: str
    name: str
    kind: str
    verdict: str
    reason: str
    keyid: str | None
    occasional: bool


def read_receipts(folder: Folder, payload: Payload, findings: list[Finding]) -> list[Receipt]:
    """Every receipt; what is wrong with one is added to ``findings``."""
    read = []
    for name in folder.below(RECEIPTS):
        if name.endswith(ENVELOPE):
            if name.removesuffix(ENVELOPE) + ".json" not in folder.sizes:
                findings.append(Finding("missing-receipt", "an envelope without its receipt", name))
            continue
        try:
            receipt = _read(folder, name, payload)
        except Refusal as refusal:
            findings.append(refusal.finding)
            continue
        read.append(receipt)
    return read


def _read(folder: Folder, name: str, payload: Payload) -> Receipt:
    record = folder.json(name)
    row = member(record, str, "device", where=name)
    verdict = member(record, str, "verdict", where=name)
    if name != f"{RECEIPTS}{row}.json":
        raise Refusal("inconsistent-receipt", f"is about another row, {row}", name)
    for key, expected in (
        ("model", payload.manifest["model"]),
        ("variant", payload.manifest["variant"]),
        ("artifact_sha256", payload.artifact_sha256),
    ):
        if record.get(key) != expected:
            raise Refusal("inconsistent-receipt", f"{key} is not this release's", name)
    keyid, occasional = None, False
    if verdict != "blocked":
        keyid, occasional = _check_signature(folder, name, record, payload)
    return Receipt(
        row,
        name,
        member(record, str, "kind", where=name),
        verdict,
        member(record, str, "reason", where=name),
        keyid,
        occasional,
    )


def _check_signature(
    folder: Folder, name: str, record: Mapping[str, Any], payload: Payload
) -> tuple[str, bool]:
    where = name.removesuffix(".json") + ENVELOPE
    if where not in folder.sizes:
        raise Refusal("unsigned-receipt", "nobody signed it", name)
    key = read_key(member(record, str, "signer", "public_key", where=name).encode(), name)
    if key.keyid != member(record, str, "signer", "keyid", where=name):
        raise Refusal("wrong-key", "its key has another id than it says", name)
    statement, _ = open_envelope(folder.json(where), [key], where)
    if statement["predicateType"] != PREDICATE:
        raise Refusal("malformed", f"does not hold {PREDICATE}", where)
    if member(statement, str, "subject", 0, "digest", "sha256", where=where) != (
        payload.artifact_sha256
    ):
        raise Refusal("inconsistent-receipt", "was signed for another artifact", where)
    if statement["predicate"].get("result") != _RESULTS.get(record["verdict"]):
        raise Refusal("inconsistent-receipt", "the signed result is another verdict", where)
    signed = {
        one["name"]: one["digest"].get("sha256")
        for one in member(statement, list, "predicate", "configuration", where=where)
        if isinstance(one, dict) and isinstance(one.get("digest"), dict) and "name" in one
    }
    if signed.get(f"{record['device']}.json") != folder.sha256(name, MAX_DOCUMENT):
        raise Refusal("changed-receipt", "is not the receipt that was signed", name)
    return key.keyid, member(record, bool, "signer", "occasional", where=name)


def check_receipts(
    folder: Folder, payload: Payload, receipts: list[Receipt], channel: str
) -> Iterator[Finding]:
    """Hold the receipts against the gate's verdict and the channel's policy."""
    gate = folder.json(GATE)
    if gate.get("artifact_sha256") != payload.artifact_sha256:
        yield Finding("inconsistent-gate", "judged another artifact", GATE)
    judged = member(gate, dict, "receipts", where=GATE)
    present = {name for name in folder.below(RECEIPTS) if not name.endswith(ENVELOPE)}
    for row in sorted(judged):
        name = f"{RECEIPTS}{row}.json"
        if name not in present:
            yield Finding("missing-receipt", "the gate judged it, and it is not there", name)
        elif member(judged, str, row, "sha256", where=GATE) != folder.sha256(name, MAX_DOCUMENT):
            yield Finding("changed-receipt", "is not the receipt that the gate judged", name)
    for name in sorted(present - {f"{RECEIPTS}{row}.json" for row in judged}):
        yield Finding("extra-receipt", "the gate did not judge it", name)
    yield from judge(receipts, channel)


def judge(receipts: list[Receipt], channel: str) -> Iterator[Finding]:
    """What stands between these receipts and a channel.

    ``candidate``: none failed, every stand-in passed, at least one row really executed.
    ``stable``: also, every device row passed, and a key that was not occasional signed it.
    """
    for receipt in receipts:
        if receipt.verdict not in ("passed", "blocked"):
            what = f"{receipt.row} {receipt.verdict}: {receipt.reason}"
            yield Finding("policy", what, receipt.name)
        elif receipt.verdict == "blocked" and receipt.kind == "standin":
            yield Finding("policy", f"the stand-in {receipt.row} did not run", receipt.name)
        elif channel == "stable" and receipt.kind == "device":
            if receipt.verdict == "blocked":
                yield Finding("policy", f"stable needs {receipt.row} to pass", receipt.name)
            elif receipt.occasional:
                what = f"stable needs {receipt.row}'s own key, not an occasional one"
                yield Finding("policy", what, receipt.name)
    if not any(receipt.verdict == "passed" for receipt in receipts):
        yield Finding("policy", "no row executed this artifact")
