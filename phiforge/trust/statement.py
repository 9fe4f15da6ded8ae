"""in-toto statements of this project: what is said, about which digests.

Formats: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and
https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md. Statements are
plain mappings in JSON's types; in-toto's own library checks every one that is made or read.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.message import Message
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.predicates.scai.v0.scai_pb2 import AttributeReport
from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
from in_toto_attestation.predicates.vsa.v1.vsa_pb2 import VerificationSummary
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

from phiforge.trust import AttestationError

TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PROVENANCE = "https://slsa.dev/provenance/v1"
ATTRIBUTE_REPORT = "https://in-toto.io/attestation/scai/attribute-report/v0.2"
VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"

RESULTS: Mapping[str, str] = {"passed": "PASSED", "failed": "FAILED"}
_PREDICATES: Mapping[str, type[Message]] = {
    TEST_RESULT: TestResult,
    PROVENANCE: Provenance,
    ATTRIBUTE_REPORT: AttributeReport,
    VERIFICATION_SUMMARY: VerificationSummary,
}
# A list of texts by SLSA's specification, which in-toto's maintainers say decides; their message
# type still has one text (https://github.com/in-toto/attestation/issues/425).
_MISTYPED = {"verifiedLevels"}
_COMPARED_WITH = {
    "golden-prompts": "golden_sha256",
    "reference": "reference_sha256",
    "acceptance": "acceptance_sha256",
    "validator": "validator_sha256",
}


def statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """A statement about ``subjects``, name to hex SHA-256.

    Raises:
        AttestationError: in-toto's library does not take it.
    """
    made = {
        "_type": STATEMENT_TYPE_URI,
        "subject": [_descriptor(name, digest) for name, digest in subjects.items()],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    check(made)
    return made


def test_result(receipt: Mapping[str, Any], receipt_sha256: str) -> dict[str, Any]:
    """The statement of a receipt that ``passed`` or ``failed`` and whose file has this digest.

    Its subject is the artifact (where there was none to open, the receipt itself);
    ``configuration`` names the receipt and what the artifact was compared with.

    Raises:
        AttestationError: the receipt is ``blocked``: nothing was tested.
    """
    if receipt["verdict"] not in RESULTS:
        raise AttestationError("not-a-result", "a blocked row has no test result")
    name = f"{receipt['model']}/{receipt['variant']}"
    golden = receipt["golden"]
    compared = [
        _descriptor(noun, receipt[key])
        for noun, key in _COMPARED_WITH.items()
        if receipt.get(key) is not None
    ]
    return statement(
        {name: receipt["artifact_sha256"] or receipt_sha256},
        TEST_RESULT,
        {
            "result": RESULTS[receipt["verdict"]],
            "configuration": [
                _descriptor(f"{receipt['device']}.json", receipt_sha256, "application/json"),
                *compared,
            ],
            "passedTests": [answer["id"] for answer in golden if answer["passed"]],
            "failedTests": [
                *(answer["id"] for answer in golden if answer["passed"] is False),
                *sorted({one["name"] for one in receipt["failures"] if one["prompt"] is None}),
            ],
        },
    )


def check(found: Mapping[str, Any]) -> None:
    """Hold a statement against in-toto's own message types.

    Raises:
        AttestationError: it is not an in-toto statement, or its predicate not of its type.
    """
    try:
        message = ParseDict(dict(found), StatementMessage())
        Statement.copy_from_pb(message).validate()
        predicate = _PREDICATES.get(found["predicateType"])
        if predicate is not None:
            ParseDict(
                {k: v for k, v in found["predicate"].items() if k not in _MISTYPED}, predicate()
            )
    except (ParseError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise AttestationError("not-in-toto", f"not an in-toto statement ({error})") from None


def _descriptor(name: str, sha256: str, media_type: str | None = None) -> dict[str, Any]:
    described: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    return described if media_type is None else {**described, "mediaType": media_type}
