"""Sign and open Dead Simple Signing Envelopes around in-toto statements.

Formats: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md and
https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.trust import TrustError
from phiforge.trust.document import from_base64, member, parse_json
from phiforge.trust.keys import PublicKey, Signer
from phiforge.trust.statement import check_statement

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_FIELDS = {"payload", "payloadType", "signatures"}
_MAX_SIGNATURES = 16


def pre_authentication(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the bytes that DSSE signs: type and payload, each with its length.

    >>> pre_authentication(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    head = f"DSSEv1 {len(payload_type.encode())} {payload_type} {len(payload)} "
    return head.encode() + payload


def sign(statement: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    """Return the envelope of ``statement`` with one signature, in JSON's types.

    Raises:
        TrustError: ``malformed``: ``statement`` is not an in-toto statement.
    """
    check_statement(statement, "statement")
    payload = canonical(statement).encode()
    signature = signer.sign(pre_authentication(payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [
            {"keyid": signer.public_key.keyid, "sig": base64.b64encode(signature).decode()}
        ],
    }


def open_envelope(
    envelope: Mapping[str, Any], keys: Iterable[PublicKey], where: str = "envelope"
) -> tuple[dict[str, Any], PublicKey]:
    """Return the in-toto statement in ``envelope``, and which of ``keys`` signed it.

    Raises:
        TrustError: ``malformed``, ``wrong-key`` (signed, but by none of ``keys``) or
            ``bad-signature`` (edited after it was signed).
    """
    payload, signatures = _read(envelope, where)
    message = pre_authentication(payload)
    known = tuple(keys)
    named = False
    for keyid, signature in signatures:
        for key in known:
            if keyid in ("", key.keyid):
                named = True
                if key.verifies(signature, message):
                    statement = parse_json(payload, where)
                    check_statement(statement, where)
                    return statement, key
    if named:
        raise TrustError("bad-signature", "the signature is not of what is signed", where)
    raise TrustError(
        "wrong-key",
        "signed by another key",
        where,
        expected=", ".join(key.keyid for key in known) or "no key at all",
        found=", ".join(keyid[:64] or "a key without id" for keyid, _ in signatures),
    )


def _read(envelope: Mapping[str, Any], where: str) -> tuple[bytes, list[tuple[str, bytes]]]:
    """The payload, and key id and signature of each signature.

    Nothing else may be in an envelope: bytes that mean nothing could be changed unseen.
    """
    if envelope.keys() != _FIELDS or envelope["payloadType"] != PAYLOAD_TYPE:
        raise TrustError("malformed", f"is not a DSSE envelope of {PAYLOAD_TYPE}", where)
    payload = from_base64(member(envelope, str, "payload", where=where), where)
    listed = member(envelope, list, "signatures", where=where)
    if not 0 < len(listed) <= _MAX_SIGNATURES:
        raise TrustError("malformed", f"has not 1 to {_MAX_SIGNATURES} signatures", where)
    signatures = []
    for index, entry in enumerate(listed):
        if not isinstance(entry, dict) or not {"sig"} <= entry.keys() <= {"sig", "keyid"}:
            raise TrustError("malformed", f"'signatures.{index}' is not a signature", where)
        keyid = member({"keyid": "", **entry}, str, "keyid", where=where)
        signature = from_base64(member(entry, str, "sig", where=where), where)
        signatures.append((keyid, signature))
    return payload, signatures
