"""All checks of a release folder, in the order in which each may believe the one before."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from phiforge.verify.additions import check_hub_files, hub_files
from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import Folder, member, survey
from phiforge.verify.model_signature import check_model_signature
from phiforge.verify.payload import CARD, Payload, check_payload, read_payload
from phiforge.verify.promotion import PROMOTION, check_promotion
from phiforge.verify.provenance import ADDED_LATER, check_provenance, read_provenance
from phiforge.verify.receipts import Receipt, check_receipts, read_receipts
from phiforge.verify.revocations import (
    REVOCATIONS,
    check_revocations,
    parse_revocations,
    read_revocations,
    revocations_in,
    without_notice,
)
from phiforge.verify.signatures import open_envelope
from phiforge.verify.trust import RELEASE, Signer, Trust, find_signer

SBOM = "evidence/sbom.cdx.json"
CHANNELS = ("candidate", "stable")


@dataclass(frozen=True)
class Verification:
    """What was found out about one folder.

    Attributes:
        authenticated: the signer is one that the reader named; else the release vouches for
            itself: whole and unchanged, by whom nobody knows.
        added: names of files that are not the release's: what a download from a Hub adds, and
            revocations.
    """

    findings: tuple[Finding, ...]
    model: str = ""
    variant: str = ""
    version: str = ""
    artifact_sha256: str = ""
    channel: str = ""
    keyid: str = ""
    occasional: bool = False
    authenticated: bool = False
    added: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether the release must not be used."""
        return any(finding.refuses for finding in self.findings)


@dataclass
class _Found:
    """Collects findings; a check that cannot go on leaves its refusal and the others go on."""

    findings: list[Finding] = field(default_factory=list)

    def run(self, check: Callable[[], Iterable[Finding]]) -> None:
        try:
            for finding in check():  # what a check found before it gave up counts too
                self.findings.append(finding)
        except Refusal as refusal:
            self.findings.append(refusal.finding)


def verify(
    root: Path,
    trust: Trust,
    *,
    channel: str | None = None,
    revocations: Path | None = None,
    known: Mapping[str, str] | None = None,
) -> Verification:
    """Check a release folder.

    Args:
        channel: the standard it must meet; None: the one that it says it meets.
        revocations: a list of revoked versions; one beside the folder or in it is read anyway.
        known: digests that the caller has taken of payload files just now.
    """
    found = _Found()
    try:
        folder, findings = survey(root, known)
        found.findings += findings
        if findings:  # nothing below a hostile name is opened
            return Verification(tuple(found.findings))
        payload = read_payload(folder)
        record = folder.json(RELEASE)
        version = member(record, str, "version", where=RELEASE)
        told_channel = "stable" if PROMOTION in folder.sizes else "candidate"
    except Refusal as refusal:
        return Verification((*found.findings, refusal.finding))
    wanted = channel or told_channel
    lists = _lists(found, folder, payload, root, revocations)
    folder = _as_signed(folder, lists, payload, version)
    of_the_hub = hub_files(folder, payload.digests)
    added = (*of_the_hub, *_list_inside(folder, payload))
    found.run(lambda: check_payload(folder, payload, added))
    found.run(lambda: check_hub_files(folder, of_the_hub))
    receipts: list[Receipt] = []
    found.run(lambda: _receipts(folder, payload, wanted, receipts))
    signer = _signed(found, folder, record, payload, trust)
    if signer is not None and PROMOTION in folder.sizes:
        found.run(partial(check_promotion, folder, payload, signer, receipts))
    found.run(lambda: _bill_of_materials(folder, payload))
    _revoked(found, lists, payload, version, signer)
    if signer is not None:
        found.run(lambda: _standing(signer, wanted, asked=channel is not None))
    if wanted == "stable" and PROMOTION not in folder.sizes:
        found.findings.append(Finding("policy", "was not promoted to stable", PROMOTION))
    return Verification(
        tuple(dict.fromkeys(found.findings)),
        model=payload.manifest["model"],
        variant=payload.manifest["variant"],
        version=version,
        artifact_sha256=payload.artifact_sha256,
        channel=wanted,
        keyid=signer.keyid if signer else "",
        occasional=signer.occasional if signer else False,
        authenticated=signer.authenticated if signer else False,
        added=added,
    )


def _signed(
    found: _Found, folder: Folder, record: Mapping[str, Any], payload: Payload, trust: Trust
) -> Signer | None:
    """Run the checks that rest on the release's own signature; the signer, if there is one."""
    try:
        signer = find_signer(folder, record, trust)
    except Refusal as refusal:
        found.findings.append(refusal.finding)
        return None
    found.run(lambda: check_provenance(folder, read_provenance(folder, signer), payload, record))
    found.run(lambda: check_model_signature(folder, payload, signer))
    for name in ADDED_LATER:
        if name in folder.sizes and name != PROMOTION:
            found.run(partial(_added, folder, name, payload, signer))
    return signer


def _added(folder: Folder, name: str, payload: Payload, signer: Signer) -> Iterable[Finding]:
    """A statement that joined later is about this artifact, and by an accepted key."""
    statement, _ = open_envelope(folder.json(name), signer.accepted, name)
    digest = member(statement, str, "subject", 0, "digest", "sha256", where=name)
    if digest != payload.artifact_sha256:
        yield Finding("inconsistent-evidence", "is about another artifact", name)


def _receipts(
    folder: Folder, payload: Payload, channel: str, receipts: list[Receipt]
) -> Iterable[Finding]:
    findings: list[Finding] = []
    receipts += read_receipts(folder, payload, findings)
    yield from findings
    yield from check_receipts(folder, payload, receipts, channel)


def _bill_of_materials(folder: Folder, payload: Payload) -> Iterable[Finding]:
    """Only what ties the bill to this artifact; its form is for CycloneDX validators."""
    bill = folder.json(SBOM)
    hashes = member(bill, list, "metadata", "component", "hashes", where=SBOM)
    if {"alg": "SHA-256", "content": payload.artifact_sha256} not in hashes:
        yield Finding("inconsistent-bill", "is about another artifact", SBOM)


def _list_inside(folder: Folder, payload: Payload) -> tuple[str, ...]:
    """The revocations that whoever publishes the release has put into its folder, if any."""
    there = REVOCATIONS in folder.sizes and REVOCATIONS not in payload.digests
    return (REVOCATIONS,) if there else ()


def _lists(
    found: _Found, folder: Folder, payload: Payload, root: Path, told: Path | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """The lists of revocations that may concern the release, each with its file's name."""
    lists: list[tuple[str, Mapping[str, Any]]] = []

    def read(where: str, reading: Callable[[], Mapping[str, Any]]) -> Iterable[Finding]:
        lists.append((where, reading()))
        return ()

    beside = root.absolute().parent / REVOCATIONS
    for path in dict.fromkeys(one for one in (told, beside if beside.is_file() else None) if one):
        found.run(partial(read, path.name, partial(read_revocations, path)))
    if _list_inside(folder, payload):
        found.run(
            lambda: read(
                REVOCATIONS, lambda: parse_revocations(folder.read(REVOCATIONS), REVOCATIONS)
            )
        )
    return lists


def _as_signed(
    folder: Folder, lists: Iterable[tuple[str, Mapping[str, Any]]], payload: Payload, version: str
) -> Folder:
    """The folder, with the digest that a revoked release's card had before it said so.

    Such a release is refused for its revocation; that its card tells of it is no other finding.
    """
    name = f"{payload.manifest['model']}/{payload.manifest['variant']}"
    try:
        for where, listed in lists:
            for one in revocations_in(listed, where):
                if one.concerns(name, version, payload.artifact_sha256):
                    card = without_notice(folder.text(CARD), one).encode()
                    known = {**folder.known, CARD: hashlib.sha256(card).hexdigest()}
                    return replace(folder, known=known)
    except Refusal:
        pass  # told by the check that reads the list, or the card, for itself
    return folder


def _revoked(
    found: _Found,
    lists: Iterable[tuple[str, Mapping[str, Any]]],
    payload: Payload,
    version: str,
    signer: Signer | None,
) -> None:
    for where, listed in lists:
        found.run(
            partial(
                check_revocations,
                listed,
                where,
                name=f"{payload.manifest['model']}/{payload.manifest['variant']}",
                version=version,
                artifact_sha256=payload.artifact_sha256,
                accepted=signer.accepted if signer else (),
            )
        )


def _standing(signer: Signer, channel: str, *, asked: bool) -> Iterable[Finding]:
    """What the reader should know about the signer; who asks for stable wants to be sure."""
    if channel == "stable" and signer.occasional:
        yield Finding("policy", "stable needs a release key, not an occasional one")
    if channel == "stable" and asked and not signer.authenticated:
        yield Finding("policy", "stable needs a signer that you trust: give --key or --ca")
    elif not signer.authenticated:
        made = ", made for the occasion" if signer.occasional else ""
        what = f"signed by {signer.keyid}{made}; to know who that is, give --key or --ca"
        yield Finding("unknown-signer", what, refuses=False)
