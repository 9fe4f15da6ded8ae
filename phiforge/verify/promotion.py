"""The promotion to stable: a signed summary of the policy and of the receipts that met it.

Format: https://slsa.dev/spec/v1.1/verification_summary, as phiforge/release/promotion.py writes it:
the policy travels inside, as a data URI, and names the key that each device row is signed with.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import MAX_DOCUMENT, Folder, member, parse_json
from phiforge.verify.payload import Payload
from phiforge.verify.receipts import Receipt
from phiforge.verify.signatures import open_envelope
from phiforge.verify.trust import Signer

PROMOTION = "evidence/promotion.dsse.json"
PREDICATE = "https://slsa.dev/verification_summary/v1"
_DATA = "data:application/json;base64,"


def check_promotion(
    folder: Folder, payload: Payload, signer: Signer, receipts: Sequence[Receipt]
) -> Iterator[Finding]:
    """Hold the promotion against the accepted keys, the artifact and the receipts."""
    where = PROMOTION
    statement, _ = open_envelope(folder.json(where), signer.accepted, where)
    if statement["predicateType"] != PREDICATE:
        raise Refusal("malformed", f"does not hold {PREDICATE}", where)
    if member(statement, str, "subject", 0, "digest", "sha256", where=where) != (
        payload.artifact_sha256
    ):
        yield Finding("inconsistent-promotion", "is about another artifact", where)
    predicate = statement["predicate"]
    if predicate.get("verificationResult") != "PASSED":
        yield Finding("policy", "the promotion says something else than PASSED", where)
    for entry in member(predicate, list, "inputAttestations", where=where):
        name = member(entry, str, "uri", where=where)
        digest = member(entry, str, "digest", "sha256", where=where)
        if name not in folder.sizes or folder.sha256(name, MAX_DOCUMENT) != digest:
            what = f"rests on another {name} than the one that is here"
            yield Finding("inconsistent-promotion", what, where)
    rows = member(_policy(predicate), dict, "rows", where=where)
    signers = {receipt.row: receipt.keyid for receipt in receipts}
    for row in sorted(rows):
        if member(rows, str, row, "signer", where=where) != signers.get(row):
            what = f"{row} is not signed by the key that the policy names"
            yield Finding("inconsistent-promotion", what, where)
    for receipt in receipts:
        if receipt.kind == "device" and receipt.row not in rows:
            yield Finding("inconsistent-promotion", f"does not judge {receipt.row}", where)


def _policy(predicate: Any) -> dict[str, Any]:
    uri = member(predicate, str, "policy", "uri", where=PROMOTION)
    digest = member(predicate, str, "policy", "digest", "sha256", where=PROMOTION)
    try:
        data = base64.b64decode(uri.removeprefix(_DATA), validate=True)
        text = data.decode("utf-8")
    except ValueError:
        raise Refusal("malformed", "does not carry its policy", PROMOTION) from None
    if not uri.startswith(_DATA) or hashlib.sha256(data).hexdigest() != digest:
        raise Refusal("malformed", "does not carry its policy", PROMOTION)
    return parse_json(text, PROMOTION)
