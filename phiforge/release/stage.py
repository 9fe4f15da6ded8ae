"""Lay out a release folder: payload at the top, card and evidence apart from it."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import read_checksums, verify
from phiforge.artifact.record import read_record, write_bytes, write_text
from phiforge.artifact.tree import files_under, fresh_tree, link_or_copy
from phiforge.errors import PhiforgeError
from phiforge.jobs import Release
from phiforge.release.card import CHART, render, speeds
from phiforge.release.evidence import lay_out_evidence
from phiforge.release.promotion import refuse_other_artifact
from phiforge.release.signing import ReleaseKey, release_key
from phiforge.release.versions import (
    RELEASE,
    check_version,
    ledger_lock,
    record_changes,
    record_current,
    record_version,
)
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify as verify_release


class StageError(PhiforgeError):
    """A release cannot be laid out from what was built and checked."""


def stage(
    job: Release,
    build_path: Path,
    verdict_path: Path,
    receipt_paths: Sequence[Path],
    snippet: Path,
    into: Path,
    signing: Mapping[str, Any],
) -> None:
    """Put a release in place, whole; until then an earlier one stays as it was.

    Args:
        signing: config key ``signing``; empty: the environment's key, or an ephemeral one.

    Raises:
        PayloadError: the build's payload is not what its checksums say.
        StageError: the gate's verdict is about another artifact, or verify would refuse the
            release.
        PromotionError: the folder holds a stable release of another artifact.
        VersionError: the version exists with other bytes, or was revoked.
    """
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
        return  # promoted, and the same artifact: it stays as it is
    key = release_key(signing)
    if _keeps_better_signature(key, into, job.version, artifact_sha256):
        return
    digests = {**read_checksums(payload), CHECKSUMS: artifact_sha256}
    receipts = {path: read_record(path) for path in receipt_paths}
    with ledger_lock(into.parent):
        check_version(into.parent, into.name, job.version, artifact_sha256)
        record_current(into.parent, into.name)
        with fresh_tree(into) as scratch:
            for name in files_under(payload):
                link_or_copy(payload / name, scratch / name)
            facts = {
                "summary": job.summary,
                "notice": job.notice,
                "snippet": snippet.read_text("utf-8").strip(),
                "version": job.version,
                "keyid": key.keyid,
                "languages": job.languages,
                "base_model": job.base_model,
            }
            card = render(build, list(receipts.values()), verdict, facts, payload)
            write_text(scratch / "README.md", card)
            if rows := speeds(list(receipts.values())):
                from phiforge.release.chart import speed_png  # slow to import

                title = f"{build['title']}, {build['variant']} (a stand-in tells a CPU's speed)"
                write_bytes(scratch / CHART, speed_png(rows, title))
            lay_out_evidence(
                scratch,
                build,
                receipts,
                verdict_path,
                digests=digests,
                recipe=asdict(job.recipe),
                version=job.version,
                channel=verdict["channel"],
                builder=job.builder,
                key=key,
            )
            _refuse_what_verify_refuses(scratch, digests)
            _record_changes(into, scratch, job.version)
        record_version(into.parent, into.name, job.version, artifact_sha256)


def _record_changes(old: Path, new: Path, version: str) -> None:
    """Note what the new version changes of the one that it replaces, if it replaces one.

    One that cannot be compared, an older phiforge's perhaps, keeps no release from its place.
    """
    from phiforge.release.diff import LIMITS, diff, read_limits  # slow to import

    replaced = read_record(old / RELEASE)["version"] if (old / RELEASE).is_file() else version
    if replaced == version:
        return
    with suppress(PhiforgeError, LookupError, TypeError):
        changes = [asdict(change) for change in diff(old, new, read_limits(LIMITS))]
        record_changes(old.parent, old.name, version, replaced, changes)


def _keeps_better_signature(
    key: ReleaseKey, into: Path, version: str, artifact_sha256: str
) -> bool:
    """Whether the same release stands there, signed by a real key, and there is none now.

    Someone without the release key must not replace what its owner signed.
    """
    if not key.ephemeral or not (into / RELEASE).is_file():
        return False
    current = read_record(into / RELEASE)
    same = (current["version"], current["artifact_sha256"]) == (version, artifact_sha256)
    if not same or current["signer"].get("ephemeral", True):
        return False
    print(
        f"kept: {into} {version} is signed by {current['signer']['keyid']}, and no release key is"
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
