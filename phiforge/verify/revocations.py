"""Whether a release was taken back: a signed list of revocations, one per version.

The list lies beside a release or in it; where a destination shows a release that was revoked, its
card says so too, in words that follow from the list.

A revocation is an in-toto statement with the SCAI attribute report (attribute ``REVOKED``, the
reason among its conditions) in a DSSE envelope:
https://github.com/in-toto/attestation/blob/main/spec/predicates/scai.md
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import MAX_DOCUMENT, member, parse_json
from phiforge.verify.signatures import Key, open_envelope, read_key

REVOCATIONS = "revocations.json"
SCHEMA = "phiforge/revocations/1"
PREDICATE = "https://in-toto.io/attestation/scai/attribute-report/v0.2"
REVOKED = "REVOKED"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~])")


@dataclass(frozen=True)
class Revocation:
    """One version that was taken back.

    Attributes:
        name: ``<model>/<variant>``.
        keyid: of the key that signed this.
        public_pem: that key; empty where the list does not hold it.
        envelope: the signed statement.
    """

    name: str
    version: str
    artifact_sha256: str
    reason: str
    keyid: str
    public_pem: str
    envelope: Mapping[str, Any]

    def concerns(self, name: str, version: str, artifact_sha256: str) -> bool:
        """Whether that release is the version, or has the bytes, that was taken back."""
        same_version = (self.name, self.version) == (name, version)
        return same_version or self.artifact_sha256 == artifact_sha256


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
    return parse_revocations(data, where)


def parse_revocations(data: bytes, where: str) -> dict[str, Any]:
    """The list that ``data`` is.

    Raises:
        Refusal: it is not such a list.
    """
    if len(data) > MAX_DOCUMENT:
        raise Refusal("oversized-file", f"larger than {MAX_DOCUMENT} bytes", where)
    try:
        listed = parse_json(data.decode("utf-8"), where)
    except UnicodeDecodeError:
        raise Refusal("not-utf-8", "is not UTF-8 text", where) from None
    if listed.get("schema") != SCHEMA:
        raise Refusal("malformed", f"is not a {SCHEMA} list", where)
    return listed


def revocations_in(
    listed: Mapping[str, Any], where: str, accepted: tuple[Key, ...] = ()
) -> Iterator[Revocation]:
    """The revocations of a list, each signature checked: by a key in the list or an accepted one.

    Raises:
        Refusal: ``malformed``, ``wrong-key``, ``bad-signature``…
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
        assertion = member(statement, dict, "predicate", "attributes", 0, where=where)
        if assertion.get("attribute") != REVOKED:
            raise Refusal("malformed", "holds a statement that revokes nothing", where)
        yield Revocation(
            name=member(statement, str, "subject", 0, "name", where=where),
            version=member(assertion, str, "conditions", "version", where=where),
            artifact_sha256=member(statement, str, "subject", 0, "digest", "sha256", where=where),
            reason=member(assertion, str, "conditions", "reason", where=where),
            keyid=key.keyid,
            public_pem=str(listed["keys"].get(key.keyid, "")),
            envelope=envelope,
        )


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
    own = {key.keyid for key in accepted}
    for one in revocations_in(listed, where, accepted):
        by = "its signer" if one.keyid in own else f"key {one.keyid}"
        if (one.name, one.version) == (name, version):
            yield Finding("revoked-version", f"{version} was revoked by {by}: {one.reason}")
        elif one.concerns(name, version, artifact_sha256):
            what = f"the same bytes were revoked as {one.name} {one.version} by {by}: {one.reason}"
            yield Finding("revoked-version", what)


def with_notice(card: str, revocation: Revocation) -> str:
    """The card of a revoked release, saying so first; the Hub wants its metadata before that."""
    notice = _notice(revocation)
    if notice in card:
        return card
    end = card.find("\n---\n") if card.startswith("---\n") else -1
    at = end + len("\n---\n") if end != -1 else 0
    return card[:at] + notice + card[at:]


def without_notice(card: str, revocation: Revocation) -> str:
    """The card as it was signed."""
    return card.replace(_notice(revocation), "", 1)


def _notice(revocation: Revocation) -> str:
    """Markdown; the reason is text, whatever its letters."""
    reason = _MARKDOWN.sub(r"\\\1", " ".join(revocation.reason.split()))
    told = f"Version {revocation.version} was taken back by its publisher: {reason}"
    return f"> **Revoked.** {told} (signed: `{REVOCATIONS}`). Do not use it.\n\n"
