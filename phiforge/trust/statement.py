"""Make and check in-toto statements: what is said, about which digests.

Format: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. Statements are plain
mappings in JSON's types; tests hold them against in-toto's own library.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from phiforge.trust import TrustError
from phiforge.trust.document import member

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
PROVENANCE = "https://slsa.dev/provenance/v1"
ATTRIBUTE_REPORT = "https://in-toto.io/attestation/scai/attribute-report/v0.2"
VERIFICATION_SUMMARY = "https://slsa.dev/verification_summary/v1"
_FIELDS = {"_type", "subject", "predicateType", "predicate"}


def statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a statement about ``subjects``, name to hex SHA-256."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [descriptor(name, digest) for name, digest in subjects.items()],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def descriptor(name: str, sha256: str, media_type: str | None = None) -> dict[str, Any]:
    """Return in-toto's resource descriptor of a file."""
    described: dict[str, Any] = {"name": name, "digest": {"sha256": sha256}}
    return described if media_type is None else {**described, "mediaType": media_type}


def check_statement(value: Mapping[str, Any], where: str) -> None:
    """Hold ``value`` against in-toto's form of a statement.

    Raises:
        TrustError: ``malformed``.
    """
    if value.keys() != _FIELDS or value["_type"] != STATEMENT_TYPE:
        raise TrustError("malformed", "is not an in-toto statement v1", where)
    member(value, str, "predicateType", where=where)
    if not member(value, dict, "predicate", where=where):
        raise TrustError("malformed", "says nothing: its predicate is empty", where)
    if not digests(member(value, list, "subject", where=where), where):
        raise TrustError("malformed", "has no subject with a SHA-256", where)


def predicate_of(value: Mapping[str, Any], predicate_type: str, where: str) -> dict[str, Any]:
    """Return the predicate of a checked statement.

    Raises:
        TrustError: ``malformed``: it is of another type.
    """
    if value["predicateType"] != predicate_type:
        raise TrustError("malformed", f"does not hold {predicate_type}", where)
    predicate: dict[str, Any] = value["predicate"]
    return predicate


def subject_of(value: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Return name and hex SHA-256 of a statement's first subject, the artifact.

    Raises:
        TrustError: ``malformed``.
    """
    first = member(value, dict, "subject", 0, where=where)
    name = member(first, str, "name", where=where)
    return name, member(first, str, "digest", "sha256", where=where)


def digests(descriptors: Iterable[Any], where: str) -> dict[str, str]:
    """Return name to hex SHA-256 of resource descriptors; one without SHA-256 is left out.

    Raises:
        TrustError: ``malformed``; ``duplicate-path``: a name is listed twice.
    """
    listed: dict[str, str] = {}
    names: set[str] = set()
    for one in descriptors:
        name = member(one, str, "name", where=where)
        if name in names:
            raise TrustError("duplicate-path", f"lists '{name}' twice", where)
        names.add(name)
        digest = member(one, dict, "digest", where=where).get("sha256")
        if isinstance(digest, str):
            listed[name] = digest
    return listed
