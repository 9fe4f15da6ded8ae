"""Write and read receipts with their signatures.

A receipt is ``<row>.json``, with its DSSE envelope ``<row>.dsse.json`` beside it: a signed test
result over the receipt's digest, written first. A blocked row has no envelope.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiforge.artifact.record import canonical, write_record
from phiforge.decoding import DecodeError, decode
from phiforge.receipts.receipt import Receipt, ReceiptError, ReceiptSigner, contradictions
from phiforge.receipts.receipt_files import ENVELOPE, envelope_path, write_unsigned
from phiforge.trust import TrustError
from phiforge.trust.document import member, parse_json, parse_record
from phiforge.trust.envelope import open_envelope, sign
from phiforge.trust.keys import PublicKey, Signer, load_public
from phiforge.trust.statement import (
    TEST_RESULT,
    descriptor,
    predicate_of,
    statement,
    subject_of,
)

# WARNED is the format's word for a test that found nothing wrong and does not say all is well.
RESULTS = {"passed": "PASSED", "compiled": "WARNED", "failed": "FAILED"}
_COMPARED_WITH = {
    "golden-prompts": "golden_sha256",
    "reference": "reference_sha256",
    "acceptance": "acceptance_sha256",
    "validator": "validator_sha256",
}


def write_signed(path: Path, receipt: Mapping[str, Any], signer: Signer) -> None:
    """Sign a receipt and write it: the envelope first, then the receipt, each by rename.

    The receipt's ``signer`` is filled in. A blocked receipt is not signed; an envelope of an
    earlier one is removed.

    Args:
        receipt: as `phiforge.receipts.receipt` makes it, in JSON's types.

    Raises:
        ReceiptError: the receipt is not of its type; nothing is written.
    """
    if receipt["verdict"] == "blocked":
        write_unsigned(path, receipt)
        return
    key = signer.public_key
    described = asdict(ReceiptSigner(key.keyid, key.pem, signer.ephemeral))
    text = canonical({**receipt, "signer": described})
    try:
        signed = decode(Receipt, json.loads(text))
        problem = next(contradictions(signed), None)
    except DecodeError as error:
        problem = str(error)
    if problem is not None:
        raise ReceiptError(f"this receipt would be malformed: {problem}", where=path)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_record(envelope_path(path), sign(test_result(signed, digest), signer))
    write_record(path, {**receipt, "signer": described})


def test_result(receipt: Receipt, receipt_sha256: str) -> dict[str, Any]:
    """Return the statement of a receipt that is not blocked and whose file has this digest.

    Its subject is the artifact (where there was none to open, the receipt itself);
    ``configuration`` names the receipt and what the artifact was compared with. Format:
    https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md
    """
    compared = {noun: getattr(receipt, key) for noun, key in _COMPARED_WITH.items()}
    own = sorted({failure.name for failure in receipt.failures if failure.prompt is None})
    return statement(
        {f"{receipt.model}/{receipt.variant}": receipt.artifact_sha256 or receipt_sha256},
        TEST_RESULT,
        {
            "result": RESULTS[receipt.verdict],
            "configuration": [
                descriptor(f"{receipt.device}.json", receipt_sha256, "application/json"),
                *(descriptor(noun, digest) for noun, digest in compared.items() if digest),
            ],
            "passedTests": [one.id for one in receipt.golden if one.passed],
            "failedTests": [*(one.id for one in receipt.golden if one.passed is False), *own],
        },
    )


def read_signed(path: Path, keys: Iterable[PublicKey] | None = None) -> Receipt:
    """Return the receipt at ``path``, if its signature is good.

    Args:
        keys: one of these must have signed, unless it is blocked; None: the key that the receipt
            names, which shows that nothing was changed since, not who signed.

    Raises:
        TrustError: ``missing-receipt``, or see `open_receipt`.
    """
    envelope = envelope_path(path)
    try:
        data = path.read_bytes()
        signature = envelope.read_bytes() if envelope.exists() else None
    except OSError as error:
        raise TrustError("missing-receipt", f"no receipt ({error.strerror})", path) from None
    return open_receipt(data, signature, str(path), keys)


def open_receipt(
    data: bytes, envelope: bytes | None, where: str, keys: Iterable[PublicKey] | None = None
) -> Receipt:
    """Return the receipt that ``data`` is, if ``envelope`` signs these very bytes.

    Args:
        where: the receipt's file; its name must be the row's.
        keys: see `read_signed`.

    Raises:
        TrustError: ``unsigned-receipt``, ``changed-receipt``, ``copied-receipt`` (of another
            row), ``inconsistent-receipt``, ``wrong-key``, ``bad-signature`` or ``malformed``.
    """
    receipt = parse_record(Receipt, data, where)
    for problem in contradictions(receipt):
        raise TrustError("malformed", problem, where)
    if Path(where).name != f"{receipt.device}.json":
        raise TrustError("copied-receipt", f"is the receipt of {receipt.name}", where)
    if receipt.signer is None:
        if envelope is not None:
            raise TrustError("changed-receipt", "a blocked row has no envelope", where)
        return receipt
    if envelope is None:
        raise TrustError(
            "unsigned-receipt",
            "nobody signed this receipt",
            where,
            remedy="run the check again; receipts are not written by hand",
        )
    key = load_public(receipt.signer.public_key, where)
    if key.keyid != receipt.signer.keyid:
        raise TrustError("wrong-key", "its signer's key has another id than it says", where)
    place = where.removesuffix(".json") + ENVELOPE
    signed, _ = open_envelope(parse_json(envelope, place), [key], place)
    _compare(signed, receipt, hashlib.sha256(data).hexdigest(), where)
    known = None if keys is None else tuple(keys)
    if known is not None and key not in known:
        expected = ", ".join(one.keyid for one in known) or "no key at all"
        raise TrustError(
            "wrong-key", "signed by another key", where, expected=expected, found=key.keyid
        )
    return receipt


def _compare(signed: Mapping[str, Any], receipt: Receipt, digest: str, where: str) -> None:
    """The signed statement must be about this file and say the same."""
    predicate = predicate_of(signed, TEST_RESULT, where)
    file = member(predicate, dict, "configuration", 0, where=where)
    if file.get("name") != f"{receipt.device}.json":
        raise TrustError("copied-receipt", "its envelope is another row's", where)
    if member(file, str, "digest", "sha256", where=where) != digest:
        raise TrustError("changed-receipt", "is not the receipt that was signed", where)
    own = test_result(receipt, digest)
    if subject_of(signed, where) != subject_of(own, where):
        raise TrustError("inconsistent-receipt", "was signed for another artifact", where)
    if predicate.get("result") != own["predicate"]["result"]:
        raise TrustError("inconsistent-receipt", "the signed result is another verdict", where)
