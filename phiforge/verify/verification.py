"""Run all checks of a release folder, each after those that it rests on."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from phiforge.receipts.coverage import DeviceState
from phiforge.trust import TrustError
from phiforge.trust.document import member, parse_record
from phiforge.verify.additions import check_hub_files, hub_files
from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder, survey
from phiforge.verify.model_signature import check_model_signature
from phiforge.verify.payload import CARD, Payload, check_digests, check_listing, read_payload
from phiforge.verify.promotion import (
    PROMOTION,
    REPRODUCTION,
    check_promotion,
    check_reproduction,
)
from phiforge.verify.provenance import check_provenance
from phiforge.verify.receipts import check_receipts, read_device_states
from phiforge.verify.revocations import (
    REVOCATIONS,
    check_revocations,
    parse_revocations,
    read_revocations,
    revocations_in,
    without_notice,
)
from phiforge.verify.trust import RELEASE, ReleaseRecord, Signer, Trust, find_signer

SBOM = "evidence/sbom.cdx.json"


@dataclass(frozen=True)
class Verification:
    """The outcome for one folder.

    Attributes:
        authenticated: the signer is one that the reader named; else the release vouches for
            itself: this proves integrity, not origin.
        added: names of files that are not the release's: what a download from a Hub adds, and
            revocations.
        devices: device row to what is known of the artifact there; of a refused release, nothing.
    """

    findings: tuple[Finding, ...]
    model: str = ""
    variant: str = ""
    version: str = ""
    artifact_sha256: str = ""
    channel: str = ""
    keyid: str = ""
    ephemeral: bool = False
    authenticated: bool = False
    added: tuple[str, ...] = ()
    devices: Mapping[str, DeviceState] = field(default_factory=dict)

    @property
    def refused(self) -> bool:
        """Whether the release must not be used."""
        return any(finding.refuses for finding in self.findings)


@dataclass
class _Findings:
    """Collects findings; a check that cannot go on leaves one more, and the others run."""

    found: list[Finding] = field(default_factory=list)

    def run(self, check: Callable[[], Iterable[Finding]]) -> bool:
        """Run a check; whether nothing of it refuses the release."""
        before = len(self.found)
        try:
            self.found.extend(check())  # what a check yielded before it gave up counts too
        except TrustError as error:
            self.found.append(Finding.of(error))
        return not any(finding.refuses for finding in self.found[before:])


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
    findings = _Findings()
    try:
        folder, hostile = survey(root, known)
        if hostile:  # nothing below a hostile name is opened
            return Verification(tuple(hostile))
        payload = read_payload(folder)
        record = parse_record(ReleaseRecord, folder.read(RELEASE), RELEASE)
    except TrustError as error:
        return Verification((Finding.of(error),))
    wanted = channel or ("stable" if PROMOTION in folder.sizes else "candidate")
    lists = _revocation_lists(findings, folder, payload, root, revocations)
    folder = _without_notice(folder, lists, payload, record.version)
    from_hub = hub_files(folder, payload.digests)
    added = (*from_hub, *_list_inside(folder, payload))
    findings.run(lambda: check_listing(folder, payload, added))
    findings.run(lambda: check_hub_files(folder, from_hub))
    findings.run(lambda: check_receipts(folder, payload, wanted))
    signer = _check_signatures(findings, folder, record, payload, trust)
    findings.run(lambda: _check_bill(folder, payload))
    for where, listed in lists:
        findings.run(
            lambda where=where, listed=listed: check_revocations(  # type: ignore[misc]
                listed,
                where,
                name=f"{payload.manifest['model']}/{payload.manifest['variant']}",
                version=record.version,
                artifact_sha256=payload.artifact_sha256,
                accepted=signer.accepted if signer else (),
            )
        )
    if signer is not None:
        findings.run(lambda: _check_origin(signer, wanted, asked=channel is not None))
    if wanted == "stable" and PROMOTION not in folder.sizes:
        findings.found.append(Finding("policy", "was not promoted to stable", PROMOTION))
    refused = any(finding.refuses for finding in findings.found)
    return Verification(
        tuple(dict.fromkeys(findings.found)),
        model=payload.manifest["model"],
        variant=payload.manifest["variant"],
        version=record.version,
        artifact_sha256=payload.artifact_sha256,
        channel=wanted,
        keyid=signer.keyid if signer else "",
        ephemeral=signer.ephemeral if signer else False,
        authenticated=signer.authenticated if signer else False,
        added=added,
        devices={} if refused else read_device_states(folder),
    )


def _check_signatures(
    findings: _Findings, folder: Folder, record: ReleaseRecord, payload: Payload, trust: Trust
) -> Signer | None:
    """Run what rests on the release's own signature; the signer, if there is one.

    The payload, which may have gigabytes, is read last: only if what is signed lists it.
    """
    try:
        signer = find_signer(folder, record, trust)
    except TrustError as error:
        findings.found.append(Finding.of(error))
        return None
    good = findings.run(lambda: check_provenance(folder, payload, record, signer))
    good &= findings.run(lambda: check_model_signature(folder, payload, signer))
    if PROMOTION in folder.sizes:
        findings.run(lambda: check_promotion(folder, payload, signer.accepted))
    if REPRODUCTION in folder.sizes:
        findings.run(lambda: check_reproduction(folder, payload, signer.accepted))
    if good:
        findings.run(lambda: check_digests(folder, payload))
    return signer


def _check_bill(folder: Folder, payload: Payload) -> Iterable[Finding]:
    """Only what ties the bill to this artifact; its form is for CycloneDX validators."""
    bill = folder.json(SBOM)
    hashes = member(bill, list, "metadata", "component", "hashes", where=SBOM)
    if {"alg": "SHA-256", "content": payload.artifact_sha256} not in hashes:
        yield Finding("inconsistent-bill", "is about another artifact", SBOM)


def _list_inside(folder: Folder, payload: Payload) -> tuple[str, ...]:
    """The revocations that whoever publishes the release has put into its folder, if any."""
    is_added = REVOCATIONS in folder.sizes and REVOCATIONS not in payload.digests
    return (REVOCATIONS,) if is_added else ()


def _revocation_lists(
    findings: _Findings, folder: Folder, payload: Payload, root: Path, named: Path | None
) -> list[tuple[str, Mapping[str, Any]]]:
    """The lists of revocations that may concern the release, each with its file's name.

    A link or ``..`` may have led to the folder: the list beside what it leads to counts as well.
    """
    lists: list[tuple[str, Mapping[str, Any]]] = []
    parents = dict.fromkeys((root.absolute().parent, root.resolve().parent))
    beside = [path for path in (one / REVOCATIONS for one in parents) if os.path.lexists(path)]
    paths = dict.fromkeys([*([named] if named else []), *beside])
    places: list[Path | str] = [*paths, *_list_inside(folder, payload)]
    for place in places:
        try:
            if isinstance(place, Path):
                lists.append((place.name, read_revocations(place)))
            else:
                lists.append((place, parse_revocations(folder.read(place), place)))
        except TrustError as error:
            findings.found.append(Finding.of(error))
    return lists


def _without_notice(
    folder: Folder, lists: Iterable[tuple[str, Mapping[str, Any]]], payload: Payload, version: str
) -> Folder:
    """The folder, with the digest that a revoked release's card had before it said so.

    Such a release is refused for its revocation; that its card says so is no other finding.
    """
    name = f"{payload.manifest['model']}/{payload.manifest['variant']}"
    try:
        for where, listed in lists:
            for one in revocations_in(listed, where):
                if one.concerns(name, version, payload.artifact_sha256):
                    card = without_notice(folder.text(CARD), one).encode()
                    known = {**folder.known, CARD: hashlib.sha256(card).hexdigest()}
                    return replace(folder, known=known)
    except TrustError:
        pass  # a finding of the check that reads the list, or the card, for itself
    return folder


def _check_origin(signer: Signer, channel: str, *, asked: bool) -> Iterable[Finding]:
    """What the reader should know about the signer; who asks for stable wants to be sure."""
    if channel == "stable" and signer.ephemeral:
        yield Finding("policy", "stable needs a release key, not an ephemeral one")
    if channel == "stable" and asked and not signer.authenticated:
        yield Finding("policy", "stable needs a signer that you trust: give --key or --ca")
    elif not signer.authenticated:
        kind = ", an ephemeral key" if signer.ephemeral else ""
        what = f"signed by {signer.keyid}{kind}; to know who that is, give --key or --ca"
        yield Finding("unknown-signer", what, refuses=False)
