"""Lay out a release folder: payload at the top, card and evidence apart from it."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from records.errors import PhiforgeError
from records.record import read_record, write_text
from records.tree import files_under, fresh_tree, link_or_copy
from release.card import render
from release.manifest import MANIFEST, verify
from release.promotion import refuse_other_artifact
from validators.signed_receipt import envelope_path


class StageError(PhiforgeError):
    """A release cannot be laid out from what was built and checked."""


def stage(
    build_path: Path,
    verdict_path: Path,
    receipt_paths: Sequence[Path],
    card_facts: Mapping[str, Any],
    into: Path,
) -> None:
    """Put a release in place, whole; until then an earlier one stays as it was.

    Raises:
        PayloadError: the build's payload is not what its checksums say.
        StageError: the gate's verdict is about another artifact.
        PromotionError: a stable release of another artifact stands here.
    """
    try:
        _stage(build_path, verdict_path, receipt_paths, card_facts, into)
    finally:
        # Snakemake makes the folder before the job; a failed first release leaves none behind.
        if into.is_dir() and not any(into.iterdir()):
            into.rmdir()


def _stage(
    build_path: Path,
    verdict_path: Path,
    receipt_paths: Sequence[Path],
    card_facts: Mapping[str, Any],
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
        os.utime(into / MANIFEST)  # promoted, and the same artifact: it stays as it is
        return
    receipts = [read_record(path) for path in receipt_paths]
    with fresh_tree(into) as scratch:
        for name in files_under(payload):
            link_or_copy(payload / name, scratch / name)
        _own_manifest(payload, scratch)
        evidence = scratch / "evidence"
        for path in receipt_paths:
            target = evidence / "receipts" / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            if (envelope := envelope_path(path)).is_file():
                shutil.copyfile(envelope, envelope_path(target))
        shutil.copyfile(verdict_path, evidence / "gate.json")
        write_text(scratch / "README.md", render(build, receipts, verdict, card_facts, payload))


def _own_manifest(payload: Path, scratch: Path) -> None:
    """Snakemake tracks the manifest: it touches it, and wants it writable.

    A link would pass the new time on to the build and rerun everything behind it.
    """
    manifest = scratch / MANIFEST
    manifest.unlink()
    shutil.copyfile(payload / MANIFEST, manifest)
    os.utime(manifest)
