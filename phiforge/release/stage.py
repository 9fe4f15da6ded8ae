"""Lay out a release folder: payload at the top, card and evidence apart from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST, read_checksums, verify
from phiforge.artifact.record import read_record, write_text
from phiforge.artifact.tree import files_under, fresh_tree, link_or_copy
from phiforge.errors import PhiforgeError
from phiforge.release.card import render
from phiforge.release.evidence import lay_out_evidence
from phiforge.release.promotion import refuse_other_artifact
from phiforge.release.signing import ReleaseKey, release_key
from phiforge.release.versions import RELEASE, check_version, ledger_lock, record_version
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify as verify_release


class StageError(PhiforgeError):
    """A release cannot be laid out from what was built and checked."""


@dataclass(frozen=True)
class Terms:
    """Under which terms a release is made: what the configuration says beside the recipe.

    Attributes:
        version: semantic version of the release.
        recipe: the variant's block of config/variants.yaml, what the converter was told.
        builder: URI of who runs this.
        signing: config key ``signing``; empty: the environment's key, or an occasional one.
    """

    version: str
    recipe: Mapping[str, Any]
    builder: str
    signing: Mapping[str, Any] = field(default_factory=dict)


def stage(
    build_path: Path,
    verdict_path: Path,
    receipt_paths: Sequence[Path],
    card_facts: Mapping[str, Any],
    terms: Terms,
    into: Path,
) -> None:
    """Put a release in place, whole; until then an earlier one stays as it was.

    Raises:
        PayloadError: the build's payload is not what its checksums say.
        StageError: the gate's verdict is about another artifact, or verify would refuse the
            release.
        PromotionError: a stable release of another artifact stands here.
        VersionError: the version exists with other bytes, or was revoked.
    """
    try:
        _stage(build_path, verdict_path, receipt_paths, card_facts, terms, into)
    finally:
        # Snakemake makes the folder before the job; a failed first release leaves none behind.
        if into.is_dir() and not any(into.iterdir()):
            into.rmdir()


def _stage(
    build_path: Path,
    verdict_path: Path,
    receipt_paths: Sequence[Path],
    card_facts: Mapping[str, Any],
    terms: Terms,
    into: Path,
) -> None:
    build = read_record(build_path)
    verdict = read_record(verdict_path)
    payload = build_path.parent / "payload"
    artifact_sha256 = verify(payload)
    for what, expected in (("BUILD.json", build), ("the gate's verdict", verdict)):
        if expected["artifact_sha256"] != artifact_sha256:
            raise StageError(
                f"{what} is about another artifact",
                where=payload,
                expected=expected["artifact_sha256"],
                found=artifact_sha256,
                remedy="run the pipeline again; it rebuilds what is stale",
            )
    if refuse_other_artifact(into, artifact_sha256):
        _own_manifest(payload, into)  # promoted, and the same artifact: it stays as it is
        return
    key = release_key(terms.signing)
    if _keeps_better_signature(key, into, terms.version, artifact_sha256):
        _own_manifest(payload, into)
        return
    digests = {**read_checksums(payload), CHECKSUMS: artifact_sha256}
    receipts = {path: read_record(path) for path in receipt_paths}
    with ledger_lock(into.parent):
        check_version(into.parent, into.name, terms.version, artifact_sha256)
        with fresh_tree(into) as scratch:
            for name in files_under(payload):
                link_or_copy(payload / name, scratch / name)
            _own_manifest(payload, scratch)
            facts = {**card_facts, "version": terms.version, "keyid": key.keyid}
            card = render(build, list(receipts.values()), verdict, facts, payload)
            write_text(scratch / "README.md", card)
            lay_out_evidence(
                scratch,
                build,
                receipts,
                verdict_path,
                digests=digests,
                recipe=terms.recipe,
                version=terms.version,
                channel=verdict["channel"],
                builder=terms.builder,
                key=key,
            )
            _refuse_what_verify_refuses(scratch, digests)
        record_version(into.parent, into.name, terms.version, artifact_sha256)


def _keeps_better_signature(
    key: ReleaseKey, into: Path, version: str, artifact_sha256: str
) -> bool:
    """Whether the same release stands there, signed by a real key, and there is none now.

    Someone without the release key must not replace what its owner signed.
    """
    if not key.occasional or not (into / RELEASE).is_file():
        return False
    standing = read_record(into / RELEASE)
    same = (standing["version"], standing["artifact_sha256"]) == (version, artifact_sha256)
    if not same or standing["signer"]["occasional"]:
        return False
    print(
        f"kept: {into} {version} is signed by {standing['signer']['keyid']}, and no release key is"
        " here; name one to sign what is new in its evidence (docs/releases.md)"
    )
    return True


def _refuse_what_verify_refuses(scratch: Path, digests: Mapping[str, str]) -> None:
    """Nothing is put in place that its readers would refuse; the payload's bytes are known."""
    found = verify_release(scratch, Trust(), known=digests)
    against = [finding.line() for finding in found.findings if finding.refuses]
    if against:
        raise StageError(
            f"verify would refuse this release: {'; '.join(against)}",
            remedy="repair what it names (docs/releases.md) and run again",
        )


def _own_manifest(payload: Path, release: Path) -> None:
    """Snakemake tracks the manifest: it touches it, and wants it writable.

    A link would pass the new time on to the build and rerun everything behind it.
    """
    write_text(release / MANIFEST, (payload / MANIFEST).read_text("utf-8"))
