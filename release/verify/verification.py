"""All checks of a release folder, in the order in which each may believe the one before."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from release.verify.additions import check_hub_files, hub_files
from release.verify.findings import Finding, Refusal
from release.verify.folder import Folder, member, survey
from release.verify.model_signature import check_model_signature
from release.verify.payload import Payload, check_payload, read_payload
from release.verify.promotion import PROMOTION, check_promotion
from release.verify.provenance import ADDED_LATER, check_provenance, read_provenance
from release.verify.receipts import Receipt, check_receipts, read_receipts
from release.verify.revocations import check_revocations, read_revocations
from release.verify.signatures import open_envelope
from release.verify.trust import RELEASE, Signer, Trust, find_signer

SBOM = "evidence/sbom.cdx.json"
REVOCATIONS = "revocations.json"  # beside the variants of a model
CHANNELS = ("candidate", "stable")


@dataclass(frozen=True)
class Verification:
    """What was found out about one folder.

    Attributes:
        authenticated: the signer is one that the reader named; else the release vouches for
            itself: whole and unchanged, by whom nobody knows.
        hub_files: names of files that a download from a Hub added; they are not the release's.
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
    hub_files: tuple[str, ...] = ()

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
        revocations: a list of revoked versions; None: the one beside the folder, if any.
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
    added = hub_files(folder, payload.digests)
    found.run(lambda: check_payload(folder, payload, added))
    found.run(lambda: check_hub_files(folder, added))
    receipts: list[Receipt] = []
    found.run(lambda: _receipts(folder, payload, wanted, receipts))
    signer = _signed(found, folder, record, payload, trust)
    if signer is not None and PROMOTION in folder.sizes:
        found.run(partial(check_promotion, folder, payload, signer, receipts))
    found.run(lambda: _bill_of_materials(folder, payload))
    _revoked(found, root, revocations, payload, version, signer)
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
        hub_files=added,
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


def _revoked(
    found: _Found,
    root: Path,
    revocations: Path | None,
    payload: Payload,
    version: str,
    signer: Signer | None,
) -> None:
    beside = root.absolute().parent / REVOCATIONS
    path = revocations or (beside if beside.is_file() else None)
    if path is None:
        return
    found.run(
        lambda: check_revocations(
            read_revocations(path),
            path.name,
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
