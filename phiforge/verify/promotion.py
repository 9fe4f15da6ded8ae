"""Check the statements that join a release after it was made: promotion and reproduction.

Formats: https://slsa.dev/spec/v1.1/verification_summary and in-toto's test result. The promotion
names, by digest, the gate's verdict, which holds the policy, and the envelopes of the receipts of
the device rows. Whether the receipts meet the policy is judged apart (`phiforge.verify.receipts`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from phiforge.receipts.coverage import device_of
from phiforge.receipts.policy import PROMOTION as PROMOTION_FILE
from phiforge.receipts.policy import required_rows
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.receipt_files import ENVELOPE
from phiforge.receipts.verdict import GATE, Verdict
from phiforge.trust.document import MAX_DOCUMENT, member, parse_record
from phiforge.trust.envelope import open_envelope
from phiforge.trust.keys import PublicKey
from phiforge.trust.statement import (
    TEST_RESULT,
    VERIFICATION_SUMMARY,
    predicate_of,
    subject_of,
)
from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder
from phiforge.verify.payload import EVIDENCE, Payload
from phiforge.verify.receipts import RECEIPTS

PROMOTION = EVIDENCE + PROMOTION_FILE
DEVICES = "phiforge_devices"  # an extension field: https://slsa.dev/spec/v1.1/verification_summary
REPRODUCTION = "evidence/reproduce.dsse.json"
ADDED_LATER = (PROMOTION, REPRODUCTION)


def check_promotion(
    folder: Folder, payload: Payload, keys: Iterable[PublicKey]
) -> Iterator[Finding]:
    """Hold the promotion against the accepted keys, the artifact and the evidence."""
    predicate, about = _opened(folder, PROMOTION, VERIFICATION_SUMMARY, keys)
    if about != payload.artifact_sha256:
        yield Finding("inconsistent-promotion", "is about another artifact", PROMOTION)
    if predicate.get("verificationResult") != "PASSED":
        yield Finding("inconsistent-promotion", "says something else than PASSED", PROMOTION)
    rests_on = [member(predicate, dict, "policy", where=PROMOTION)]
    rests_on += member(predicate, list, "inputAttestations", where=PROMOTION)
    named = set()
    for one in rests_on:
        name = member(one, str, "uri", where=PROMOTION)
        digest = member(one, str, "digest", "sha256", where=PROMOTION)
        named.add(name)
        if name not in folder.sizes or folder.sha256(name, MAX_DOCUMENT) != digest:
            what = f"rests on another {name} than the one in this folder"
            yield Finding("inconsistent-promotion", what, PROMOTION)
    policy = parse_record(Verdict, folder.read(GATE), GATE).policy
    devices = required_rows(policy.rows)
    for name in sorted({GATE, *(f"{RECEIPTS}{row}{ENVELOPE}" for row in devices)} - named):
        yield Finding("inconsistent-promotion", f"does not rest on {name}", PROMOTION)
    receipts = (f"{RECEIPTS}{row}.json" for row in devices)
    asked = [device_of(parse_record(Receipt, folder.read(one), one)) for one in receipts]
    if predicate.get(DEVICES) != list(map(asdict, asked)):
        what = "names other generations or drivers than its receipts"
        yield Finding("inconsistent-promotion", what, PROMOTION)


def check_reproduction(
    folder: Folder, payload: Payload, keys: Iterable[PublicKey]
) -> Iterator[Finding]:
    """Hold the statement that the bytes were built twice against keys, artifact and predicate."""
    predicate, about = _opened(folder, REPRODUCTION, TEST_RESULT, keys)
    if about != payload.artifact_sha256:
        yield Finding("inconsistent-evidence", "is about another artifact", REPRODUCTION)
    failed = member(predicate, list, "failedTests", where=REPRODUCTION)
    tests = member(predicate, list, "passedTests", where=REPRODUCTION)
    if predicate.get("result") != "PASSED" or failed or not tests:
        what = "does not say that a second build passed its comparison"
        yield Finding("inconsistent-evidence", what, REPRODUCTION)


def _opened(
    folder: Folder, name: str, predicate_type: str, keys: Iterable[PublicKey]
) -> tuple[dict[str, Any], str]:
    """The predicate of a statement that one of ``keys`` signed, and the artifact's digest."""
    statement, _ = open_envelope(folder.json(name), keys, name)
    return predicate_of(statement, predicate_type, name), subject_of(statement, name)[1]
