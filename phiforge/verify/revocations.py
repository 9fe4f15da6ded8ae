"""Read and write lists of revoked versions, one signed statement a version.

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

from phiforge.trust import TrustError
from phiforge.trust.document import member, parse_json
from phiforge.trust.envelope import open_envelope
from phiforge.trust.keys import PublicKey, load_public
from phiforge.trust.statement import ATTRIBUTE_REPORT, predicate_of, subject_of
from phiforge.verify.findings import Finding
from phiforge.verify.folder import read_document

REVOCATIONS = "revocations.json"
SCHEMA = "phiforge/revocations/1"
REVOKED = "REVOKED"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|!~])")


@dataclass(frozen=True)
class Revocation:
    """One revoked version.

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
        """Return whether that release is the revoked version, or has its bytes."""
        same_version = (self.name, self.version) == (name, version)
        return same_version or self.artifact_sha256 == artifact_sha256


def read_revocations(path: Path) -> dict[str, Any]:
    """Return the list at ``path``.

    Raises:
        TrustError: it is no regular file, or not such a list.
    """
    return parse_revocations(read_document(path, path.name, follow=True), path.name)


def parse_revocations(data: bytes, where: str) -> dict[str, Any]:
    """Return the list that ``data`` is; its signatures are checked by `revocations_in`.

    Raises:
        TrustError: it is not such a list.
    """
    listed = parse_json(data, where)
    if listed.get("schema") != SCHEMA:
        raise TrustError("malformed", f"is not a {SCHEMA} list", where)
    return listed


def revocations_in(
    listed: Mapping[str, Any], where: str, accepted: tuple[PublicKey, ...] = ()
) -> Iterator[Revocation]:
    """Yield the revocations of a list, each signed by a key in the list or an accepted one.

    Raises:
        TrustError: ``malformed``, ``wrong-key``, ``bad-signature``…
    """
    keys = {}
    for keyid, pem in member(listed, dict, "keys", where=where).items():
        key = load_public(str(pem), where)
        if key.keyid != keyid:
            raise TrustError("wrong-key", f"holds another key as {keyid}", where)
        keys[keyid] = key
    for envelope in member(listed, list, "revocations", where=where):
        if not isinstance(envelope, dict):
            raise TrustError("malformed", "holds something else than envelopes", where)
        statement, key = open_envelope(envelope, [*keys.values(), *accepted], where)
        predicate = predicate_of(statement, ATTRIBUTE_REPORT, where)
        assertion = member(predicate, dict, "attributes", 0, where=where)
        name, artifact_sha256 = subject_of(statement, where)
        if assertion.get("attribute") != REVOKED:
            raise TrustError("malformed", "holds a statement that revokes nothing", where)
        yield Revocation(
            name=name,
            version=member(assertion, str, "conditions", "version", where=where),
            artifact_sha256=artifact_sha256,
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
    accepted: tuple[PublicKey, ...],
) -> Iterator[Finding]:
    """Refuse a release whose version or bytes were revoked, whoever signed that.

    Args:
        name: ``<model>/<variant>``.
        accepted: the keys whose word counts for the release; named otherwise than a stranger's.
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
    """Return the card of a revoked release, saying so first, after the Hub's metadata."""
    notice = _notice(revocation)
    if notice in card:
        return card
    end = card.find("\n---\n") if card.startswith("---\n") else -1
    at = end + len("\n---\n") if end != -1 else 0
    return card[:at] + notice + card[at:]


def without_notice(card: str, revocation: Revocation) -> str:
    """Return the card as it was signed."""
    return card.replace(_notice(revocation), "", 1)


def _notice(revocation: Revocation) -> str:
    """Markdown; the reason is text, whatever its letters."""
    reason = _MARKDOWN.sub(r"\\\1", " ".join(revocation.reason.split()))
    why = f"Version {revocation.version} was revoked by its publisher: {reason}"
    return f"> **Revoked.** {why} (signed: `{REVOCATIONS}`). Do not use it.\n\n"
