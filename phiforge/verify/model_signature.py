"""The OpenSSF model signature over the payload, as ``model_signing verify`` reads it.

Format: https://github.com/sigstore/model-transparency (a sigstore bundle around an in-toto
statement whose predicate lists every file of the model with its digest).
"""

import hashlib
from collections.abc import Iterator

from cryptography import x509

from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import Folder, member
from phiforge.verify.payload import Payload
from phiforge.verify.signatures import key_of, open_bundle, open_envelope
from phiforge.verify.trust import Signer

MODEL_SIGNATURE = "evidence/model.sig"
PREDICATE = "https://model_signing/signature/v1.0"


def check_model_signature(folder: Folder, payload: Payload, signer: Signer) -> Iterator[Finding]:
    """Hold the signature against the accepted keys, and what it signs against the payload."""
    where = MODEL_SIGNATURE
    envelope, certificates, _ = open_bundle(folder.json(where), where)
    if certificates:
        try:
            leaf = x509.load_der_x509_certificate(certificates[0])
        except ValueError:
            raise Refusal("bad-certificate", "holds no certificate", where) from None
        key = key_of(leaf.public_key(), where)
        if key.keyid not in {accepted.keyid for accepted in signer.accepted}:
            raise Refusal("wrong-key", "its certificate is of another key", where)
    statement, _ = open_envelope(envelope, signer.accepted, where)
    if statement["predicateType"] != PREDICATE:
        raise Refusal("malformed", f"does not hold {PREDICATE}", where)
    predicate = statement["predicate"]
    method = member(predicate, dict, "serialization", where=where)
    if method.get("method") != "files" or method.get("hash_type") != "sha256":
        raise Refusal("malformed", "does not list files with SHA-256", where)
    signed: dict[str, str] = {}
    root = hashlib.sha256()
    for resource in member(predicate, list, "resources", where=where):
        digest = member(resource, str, "digest", where=where)
        signed[member(resource, str, "name", where=where)] = digest
        try:
            root.update(bytes.fromhex(digest))
        except ValueError:
            raise Refusal("malformed", "holds a digest that is not hexadecimal", where) from None
    if root.hexdigest() != member(statement, str, "subject", 0, "digest", "sha256", where=where):
        yield Finding("inconsistent-signature", "does not add up to its own subject", where)
    if signed != payload.digests:
        yield Finding("inconsistent-signature", "signs other files than the payload's", where)
