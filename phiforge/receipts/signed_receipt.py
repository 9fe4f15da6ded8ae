"""A receipt and the envelope beside it (`phiforge.receipts.receipt_files`).

The envelope holds the signed test result over the receipt file's digest
(`phiforge.trust.statement.test_result`) and is written first: a receipt that stands without its
envelope, or beside another's, was not written here. A blocked row has no envelope.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.record import RecordError, canonical, read_record, write_record
from phiforge.receipts.receipt import check_receipt, write_receipt, write_unsigned
from phiforge.receipts.receipt_files import envelope_path
from phiforge.trust import AttestationError
from phiforge.trust.envelope import sign, verify
from phiforge.trust.keys import OccasionalSigner, PublicKey, Signer, load_public, public_pem
from phiforge.trust.statement import TEST_RESULT, test_result


def write_signed(path: Path, receipt: Mapping[str, Any], signer: Signer) -> None:
    """Sign a receipt and write it: the envelope first, then the receipt, each by rename.

    The receipt's ``signer`` is filled in. A blocked receipt is not signed; an envelope of an
    earlier one is removed.

    Raises:
        CheckError: the receipt does not satisfy its schema; nothing is written.
    """
    if receipt["verdict"] == "blocked":
        write_unsigned(path, receipt)
        return
    signed = {**receipt, "signer": describe(signer)}
    check_receipt(path, signed)
    digest = hashlib.sha256(canonical(signed).encode()).hexdigest()
    write_record(envelope_path(path), sign(test_result(signed, digest), signer))
    write_receipt(path, signed)


def describe(signer: Signer) -> dict[str, Any]:
    """A signer in the receipt's form."""
    return {
        "keyid": signer.public_key.keyid,
        "public_key": public_pem(signer.public_key),
        "occasional": isinstance(signer, OccasionalSigner),
    }


def read_signed(path: Path, keys: Sequence[PublicKey] | None) -> dict[str, Any]:
    """The receipt at ``path``, if one of ``keys`` signed these very bytes.

    Args:
        keys: whom to believe; None: the key that the receipt itself names. That shows that
            nothing was changed since, not who signed.

    Raises:
        RecordError: there is no receipt.
        AttestationError: by name: ``unsigned``, ``edited-receipt``, ``edited-envelope``,
            ``other-receipt``, ``unknown-signer``, ``malformed-envelope``, ``not-in-toto``,
            ``not-a-result``.
    """
    receipt = read_record(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    envelope = envelope_path(path)
    if receipt.get("verdict") == "blocked":
        if envelope.exists() or receipt.get("signer") is not None:
            raise _edited(path, "a blocked row has no signer and no envelope")
        return receipt
    if not envelope.is_file():
        raise AttestationError(
            "unsigned",
            "nobody signed this receipt",
            where=path,
            expected=f"an envelope {envelope.name} beside it",
            found="none",
            remedy="run the check again; receipts are not written by hand",
        )
    try:
        statement = verify(read_record(envelope), _named_keys(receipt) if keys is None else keys)
    except RecordError as error:
        raise AttestationError("malformed-envelope", str(error)) from None
    except AttestationError as error:
        name = "edited-envelope" if error.name == "bad-signature" else error.name
        raise AttestationError(name, str(error), where=envelope) from None
    _hold(statement, receipt, digest, path)
    return receipt


def _named_keys(receipt: Mapping[str, Any]) -> list[PublicKey]:
    signer = receipt.get("signer")
    if not isinstance(signer, Mapping) or not isinstance(signer.get("public_key"), str):
        raise AttestationError("unsigned", "the receipt names no signer")
    return [load_public(signer["public_key"])]


def _hold(
    statement: Mapping[str, Any], receipt: Mapping[str, Any], digest: str, path: Path
) -> None:
    """The signed statement must be about this receipt and say the same."""
    if statement["predicateType"] != TEST_RESULT:
        raise AttestationError(
            "not-a-result",
            "the envelope says something else than a test result",
            where=path,
            expected=TEST_RESULT,
            found=statement["predicateType"],
        )
    predicate = statement["predicate"]
    # The first resource is the receipt's file, the others are what it was compared with.
    signed = (predicate.get("configuration") or [{}])[0]
    if signed.get("name") != path.name:
        raise AttestationError(
            "other-receipt",
            "the envelope is another row's",
            where=path,
            expected=path.name,
            found=signed.get("name"),
            remedy="run the check again; receipts are not copied",
        )
    expected = signed.get("digest", {}).get("sha256")
    if expected != digest:
        raise _edited(path, "it is not the receipt that was signed", expected, digest)
    try:
        told = test_result(receipt, digest)
    except (AttestationError, KeyError, TypeError) as error:
        raise _edited(path, f"not a receipt ({error})") from None
    if (statement["subject"], predicate.get("result")) != (
        told["subject"],
        told["predicate"]["result"],
    ):
        raise AttestationError(
            "edited-envelope",
            "the envelope is about another artifact or result than the receipt",
            where=path,
            remedy="run the check again",
        )


def _edited(
    path: Path, what: str, expected: str | None = None, found: str | None = None
) -> AttestationError:
    return AttestationError(
        "edited-receipt",
        f"the receipt was edited: {what}",
        where=path,
        expected=expected,
        found=found,
        remedy="run the check again",
    )
