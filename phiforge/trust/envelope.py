"""Dead Simple Signing Envelopes around in-toto statements.

Formats: https://github.com/secure-systems-lab/dsse/blob/master/envelope.md (JSON) and
https://github.com/in-toto/attestation/blob/main/spec/v1/envelope.md
"""

import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.trust import AttestationError
from phiforge.trust.keys import PublicKey, Signer
from phiforge.trust.library import Envelope, UnverifiedSignatureError
from phiforge.trust.statement import check

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_FIELDS = {"payload", "payloadType", "signatures"}


def sign(statement: Mapping[str, Any], signer: Signer) -> dict[str, Any]:
    """The envelope of ``statement`` with one signature, in JSON's types.

    Raises:
        AttestationError: ``statement`` is not an in-toto statement.
    """
    check(statement)
    envelope = Envelope(canonical(statement).encode(), PAYLOAD_TYPE, {})
    envelope.sign(signer)
    return dict(envelope.to_dict())


def verify(envelope: Mapping[str, Any], keys: Sequence[PublicKey]) -> dict[str, Any]:
    """The statement in ``envelope``, if one of ``keys`` signed it.

    Raises:
        AttestationError: by name: ``malformed-envelope``, ``unknown-signer`` (signed, but by none
            of ``keys``), ``bad-signature`` (edited after it was signed), ``not-in-toto``.
    """
    opened = _open(envelope)
    signers = {key.keyid: key for key in keys}
    known = [signature for signature in opened.signatures if signature in signers]
    if not known:
        raise AttestationError(
            "unknown-signer",
            "signed by an unknown key",
            expected=", ".join(signers) or "no key at all",
            found=", ".join(opened.signatures),
        )
    for keyid in known:
        try:
            signers[keyid].verify_signature(opened.signatures[keyid], opened.pae())
        except UnverifiedSignatureError:
            raise AttestationError(
                "bad-signature", f"the envelope was edited: key {keyid} did not sign this"
            ) from None
    return _statement(opened)


def peek(envelope: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The statement, and the ids of the keys that are said to have signed it; nothing is verified.

    Raises:
        AttestationError: ``malformed-envelope``, ``not-in-toto``.
    """
    opened = _open(envelope)
    return _statement(opened), tuple(opened.signatures)


def _open(envelope: Mapping[str, Any]) -> Envelope:
    try:
        opened = Envelope.from_dict(copy.deepcopy(dict(envelope)))  # it edits what it is given
        # Bytes that mean nothing must not be there either: one statement has one envelope.
        sound = envelope.keys() == _FIELDS and opened.to_dict() == dict(envelope)
    except Exception:  # whatever a hostile file makes the parser raise
        sound = False
    if not sound or not opened.signatures:
        raise AttestationError(
            "malformed-envelope", "not a signed envelope", expected="DSSE JSON, signed once or more"
        )
    if opened.payload_type != PAYLOAD_TYPE:
        raise AttestationError(
            "not-in-toto",
            "the envelope holds something else than a statement",
            expected=PAYLOAD_TYPE,
            found=repr(opened.payload_type),
        )
    return opened


def _statement(opened: Envelope) -> dict[str, Any]:
    try:
        statement = json.loads(opened.payload)
    except ValueError:
        statement = None
    if not isinstance(statement, dict):
        raise AttestationError("not-in-toto", "the envelope's payload is not a JSON object")
    check(statement)
    return statement
