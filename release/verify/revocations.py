"""Whether a release was taken back: a signed list of revocations, one per version.

A revocation is an in-toto statement with the SCAI attribute report (attribute ``REVOKED``, the
reason among its conditions) in a DSSE envelope:
https://github.com/in-toto/attestation/blob/main/spec/predicates/scai.md
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from release.verify.findings import Finding, Refusal
from release.verify.folder import MAX_DOCUMENT, member, parse_json
from release.verify.signatures import Key, open_envelope, read_key

SCHEMA = "phiforge/revocations/1"
PREDICATE = "https://in-toto.io/attestation/scai/attribute-report/v0.2"
REVOKED = "REVOKED"


def read_revocations(path: Path) -> dict[str, Any]:
    """The list at ``path``.

    Raises:
        Refusal: it is not such a list.
    """
    where = path.name
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_DOCUMENT + 1)
    except OSError as error:
        raise Refusal("unreadable-file", error.strerror or "cannot be read", where) from None
    if len(data) > MAX_DOCUMENT:
        raise Refusal("oversized-file", f"larger than {MAX_DOCUMENT} bytes", where)
    try:
        listed = parse_json(data.decode("utf-8"), where)
    except UnicodeDecodeError:
        raise Refusal("not-utf-8", "is not UTF-8 text", where) from None
    if listed.get("schema") != SCHEMA:
        raise Refusal("malformed", f"is not a {SCHEMA} list", where)
    return listed


def check_revocations(
    listed: Mapping[str, Any],
    where: str,
    *,
    name: str,
    version: str,
    artifact_sha256: str,
    accepted: tuple[Key, ...],
) -> Iterator[Finding]:
    """Refuse a release whose version or bytes were revoked, whoever signed that.

    Args:
        name: ``<model>/<variant>``.
        accepted: the keys whose word counts for the release; told apart from a stranger's.
    """
    keys = {}
    for keyid, pem in member(listed, dict, "keys", where=where).items():
        key = read_key(str(pem).encode(), where)
        if key.keyid != keyid:
            raise Refusal("wrong-key", f"holds another key as {keyid}", where)
        keys[keyid] = key
    for envelope in member(listed, list, "revocations", where=where):
        if not isinstance(envelope, dict):
            raise Refusal("malformed", "holds something else than envelopes", where)
        statement, key = open_envelope(envelope, [*keys.values(), *accepted], where)
        if statement["predicateType"] != PREDICATE:
            raise Refusal("malformed", f"does not hold {PREDICATE}", where)
        subject = member(statement, str, "subject", 0, "name", where=where)
        digest = member(statement, str, "subject", 0, "digest", "sha256", where=where)
        assertion = member(statement, dict, "predicate", "attributes", 0, where=where)
        if assertion.get("attribute") != REVOKED:
            raise Refusal("malformed", "holds a statement that revokes nothing", where)
        revoked = member(assertion, str, "conditions", "version", where=where)
        reason = member(assertion, str, "conditions", "reason", where=where)
        by = "its signer" if key.keyid in {one.keyid for one in accepted} else f"key {key.keyid}"
        if subject == name and revoked == version:
            yield Finding("revoked-version", f"{version} was revoked by {by}: {reason}")
        elif digest == artifact_sha256:
            what = f"the same bytes were revoked as {subject} {revoked} by {by}: {reason}"
            yield Finding("revoked-version", what)
