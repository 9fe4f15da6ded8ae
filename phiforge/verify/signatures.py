"""Public keys and the two signed forms of a release: DSSE envelopes and sigstore bundles.

Formats: https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md and
https://docs.sigstore.dev/about/bundle/ (v0.3, as OpenSSF model-signing writes it offline).
"""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from phiforge.verify.findings import Refusal
from phiforge.verify.folder import MAX_DOCUMENT, member, parse_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_MAX_SIGNATURES = 16


@dataclass(frozen=True)
class Key:
    """An ECDSA P-256 or Ed25519 public key; its id is the SHA-256 of its DER form."""

    keyid: str
    public: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

    def signed(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` is this key's over ``message``."""
        try:
            if isinstance(self.public, ec.EllipticCurvePublicKey):
                self.public.verify(signature, message, ec.ECDSA(SHA256()))
            else:
                self.public.verify(signature, message)
        except InvalidSignature:
            return False
        return True


def key_of(public: object, where: str) -> Key:
    """The key around one of cryptography's.

    Raises:
        Refusal: ``bad-key``: it is of another kind.
    """
    if isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        pass
    elif not isinstance(public, ed25519.Ed25519PublicKey):
        raise Refusal("bad-key", "neither an ECDSA P-256 nor an Ed25519 public key", where)
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return Key(hashlib.sha256(der).hexdigest(), public)


def read_key(pem: bytes, where: str) -> Key:
    """The key in a PEM file.

    Raises:
        Refusal: ``bad-key``.
    """
    try:
        return key_of(load_pem_public_key(pem), where)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Refusal("bad-key", "not a public key in PEM form", where) from None


def pre_authentication(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """What DSSE signs: type and payload, each with its length.

    >>> pre_authentication(b"hello world", "http://example.com/HelloWorld")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    head = f"DSSEv1 {len(payload_type.encode())} {payload_type} {len(payload)} "
    return head.encode() + payload


def open_envelope(
    envelope: Mapping[str, Any], keys: Iterable[Key], where: str
) -> tuple[dict[str, Any], Key]:
    """The in-toto statement in a DSSE envelope, and which of ``keys`` signed it.

    Raises:
        Refusal: ``malformed``, ``wrong-key`` (none of ``keys`` is named), ``bad-signature``.
    """
    if member(envelope, str, "payloadType", where=where) != PAYLOAD_TYPE:
        raise Refusal("malformed", f"does not hold {PAYLOAD_TYPE}", where)
    payload = _base64(member(envelope, str, "payload", where=where), where)
    key = _signer(envelope, payload, tuple(keys), where)
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Refusal("not-utf-8", "the signed statement is not UTF-8", where) from None
    statement = parse_json(text, where)
    if statement.get("_type") != STATEMENT_TYPE:
        raise Refusal("malformed", "does not hold an in-toto statement v1", where)
    member(statement, list, "subject", where=where)
    member(statement, str, "predicateType", where=where)
    member(statement, dict, "predicate", where=where)
    return statement, key


def _signer(envelope: Mapping[str, Any], payload: bytes, keys: tuple[Key, ...], where: str) -> Key:
    signatures = member(envelope, list, "signatures", where=where)[:_MAX_SIGNATURES]
    message = pre_authentication(payload)
    named = False
    for index in range(len(signatures)):
        keyid = signatures[index].get("keyid") if isinstance(signatures[index], dict) else None
        signature = _base64(member(envelope, str, "signatures", index, "sig", where=where), where)
        for key in keys:
            if keyid in ("", None, key.keyid):
                named = True
                if key.signed(signature, message):
                    return key
    if named:
        raise Refusal("bad-signature", "the signature does not fit what is signed", where)
    raise Refusal("wrong-key", "signed by another key than the one that is trusted", where)


def open_bundle(
    bundle: Mapping[str, Any], where: str
) -> tuple[Mapping[str, Any], list[bytes], str]:
    """A model signature's envelope, the certificates in it (DER, leaf first), and its key hint.

    Raises:
        Refusal: ``malformed``.
    """
    if bundle.get("mediaType") != BUNDLE_TYPE:
        raise Refusal("malformed", f"is not a {BUNDLE_TYPE}", where)
    material = member(bundle, dict, "verificationMaterial", where=where)
    hint = ""
    certificates: list[bytes] = []
    if "x509CertificateChain" in material:
        chain = member(material, list, "x509CertificateChain", "certificates", where=where)
        certificates = [
            _base64(member(chain, str, index, "rawBytes", where=where), where)
            for index in range(min(len(chain), _MAX_SIGNATURES))
        ]
    else:
        hint = member(material, str, "publicKey", "hint", where=where)
    return member(bundle, dict, "dsseEnvelope", where=where), certificates, hint


def _base64(text: str, where: str) -> bytes:
    if len(text) > 2 * MAX_DOCUMENT:
        raise Refusal("oversized-file", "a signed payload is too large", where)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal("malformed", "holds text that is not base64", where) from None
