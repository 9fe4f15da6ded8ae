"""Lay out a release's ``evidence/``: receipts, provenance, bill of materials, keys."""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.record import write_record, write_text
from phiforge.artifact.tree import files_under, sha256_file
from phiforge.receipts.receipt_files import envelope_path
from phiforge.release.provenance import provenance, taken_from_cache
from phiforge.release.sbom import bill_of_materials
from phiforge.release.signing import ReleaseKey
from phiforge.settings.modules import environments_of
from phiforge.verify.trust import RELEASE_SCHEMA

CARD = "README.md"


def lay_out_evidence(
    release: Path,
    build: Mapping[str, Any],
    receipts: Mapping[Path, Mapping[str, Any]],
    verdict: Path,
    *,
    digests: Mapping[str, str],
    recipe: Mapping[str, Any],
    version: str,
    channel: str,
    builder: str,
    key: ReleaseKey,
) -> None:
    """Fill ``release/evidence``; the card and the payload are there already.

    Args:
        receipts: receipt files and what they say; each one's envelope lies beside it.
        verdict: the gate's verdict file.
        digests: every payload file, SHA256SUMS included, to hex SHA-256.
        recipe: the variant's block of config/variants.yaml.
    """
    from phiforge.release.model_signature import (
        sign_model,  # slow; a release that is kept is not signed
    )

    evidence = release / "evidence"
    copy_receipts(list(receipts), evidence / "receipts")
    shutil.copyfile(verdict, evidence / "gate.json")
    write_record(
        evidence / "release.json",
        {
            "schema": RELEASE_SCHEMA,
            "model": build["model"],
            "variant": build["variant"],
            "version": version,
            "artifact_sha256": build["artifact_sha256"],
            "signer": {"keyid": key.keyid, "ephemeral": key.ephemeral},
        },
    )
    bill = bill_of_materials(build, list(receipts.values()), release, digests, version)
    write_record(evidence / "sbom.cdx.json", bill)
    write_text(evidence / "keys" / f"{key.keyid}.pub", key.public_pem)
    if key.certificates_pem:
        write_text(evidence / "keys" / f"{key.keyid}.crt", key.certificates_pem)
    sign_model(key, f"{build['model']}-{build['variant']}", digests, evidence / "model.sig")
    byproducts = [Path(CARD), *(Path("evidence") / name for name in files_under(evidence))]
    statement = provenance(
        build,
        recipe,
        version=version,
        channel=channel,
        builder=builder,
        payload=digests,
        byproducts={name.as_posix(): sha256_file(release / name) for name in byproducts},
        environments=environments_of(*modules_of(build, receipts.values())),
        taken=list(taken_from_cache(build, receipts)),
    )
    write_record(evidence / "provenance.dsse.json", key.sign_statement(statement))


def modules_of(build: Mapping[str, Any], receipts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the modules that made the payload, and that ran it wherever it was checked."""
    yield f"converters.{build['converter']}"
    for receipt in receipts:
        if receipt["verdict"] != "blocked":
            yield f"validators.runtimes.{receipt['runtime']}"


def copy_receipts(receipts: Sequence[Path], into: Path) -> None:
    """Copy each receipt and, where it has one, its envelope; a blocked row has none."""
    into.mkdir(parents=True)
    for path in receipts:
        shutil.copyfile(path, into / path.name)
        envelope = envelope_path(path)
        if envelope.is_file():
            shutil.copyfile(envelope, into / envelope.name)
