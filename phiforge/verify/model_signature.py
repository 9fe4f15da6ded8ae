"""Check the OpenSSF model signature over the payload, as ``model_signing verify`` reads it.

Format: https://github.com/sigstore/model-transparency: a sigstore bundle
(https://docs.sigstore.dev/about/bundle/, v0.3) around an in-toto statement whose predicate lists
every file of the model with its digest.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from cryptography import x509

from phiforge.trust import TrustError
from phiforge.trust.document import from_base64, member
from phiforge.trust.envelope import open_envelope
from phiforge.trust.keys import public_key
from phiforge.trust.statement import predicate_of, subject_of
from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder
from phiforge.verify.payload import Payload
from phiforge.verify.trust import Signer

MODEL_SIGNATURE = "evidence/model.sig"
BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PREDICATE = "https://model_signing/signature/v1.0"


def check_model_signature(folder: Folder, payload: Payload, signer: Signer) -> Iterator[Finding]:
    """Hold the signature against the accepted keys, and what it signs against the payload."""
    where = MODEL_SIGNATURE
    bundle = folder.json(where)
    if bundle.get("mediaType") != BUNDLE_TYPE:
        raise TrustError("malformed", f"is not a {BUNDLE_TYPE}", where)
    _check_certificate(member(bundle, dict, "verificationMaterial", where=where), signer)
    envelope = member(bundle, dict, "dsseEnvelope", where=where)
    statement, _ = open_envelope(envelope, signer.accepted, where)
    predicate = predicate_of(statement, PREDICATE, where)
    method = member(predicate, dict, "serialization", where=where)
    if method.get("method") != "files" or method.get("hash_type") != "sha256":
        raise TrustError("malformed", "does not list files with SHA-256", where)
    signed: dict[str, str] = {}
    root = hashlib.sha256()
    for resource in member(predicate, list, "resources", where=where):
        digest = member(resource, str, "digest", where=where)
        signed[member(resource, str, "name", where=where)] = digest
        try:
            root.update(bytes.fromhex(digest))
        except ValueError:
            raise TrustError("malformed", "holds a digest that is not hexadecimal", where) from None
    if root.hexdigest() != subject_of(statement, where)[1]:
        yield Finding("inconsistent-signature", "does not add up to its own subject", where)
    if signed != payload.digests:
        yield Finding("inconsistent-signature", "signs other files than the payload's", where)


def _check_certificate(material: Any, signer: Signer) -> None:
    """A bundle without a certificate names its key, whose hint says nothing that is needed."""
    where = MODEL_SIGNATURE
    if "x509CertificateChain" not in material:
        member(material, str, "publicKey", "hint", where=where)
        return
    chain = ("x509CertificateChain", "certificates", 0, "rawBytes")
    try:
        data = from_base64(member(material, str, *chain, where=where), where)
        leaf = x509.load_der_x509_certificate(data)
    except ValueError:
        raise TrustError("bad-certificate", "holds no certificate", where) from None
    if public_key(leaf.public_key(), where) not in signer.accepted:
        raise TrustError("wrong-key", "its certificate is of another key", where)
