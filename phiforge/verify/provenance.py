"""Check the release's signed statement: SLSA provenance, and the digest of all evidence.

Format: https://slsa.dev/spec/v1.0/provenance. ``byproducts`` lists the card and all evidence but
the statement itself, so one signature covers what lies beside the payload.
"""

from collections.abc import Iterator
from typing import Any

from phiforge.trust.document import MAX_DOCUMENT, member
from phiforge.trust.envelope import open_envelope
from phiforge.trust.statement import PROVENANCE as PREDICATE
from phiforge.trust.statement import digests, predicate_of
from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder
from phiforge.verify.payload import CARD, EVIDENCE, MANIFEST, Payload
from phiforge.verify.promotion import ADDED_LATER
from phiforge.verify.trust import KEYS, RELEASE, ReleaseRecord, Signer

PROVENANCE = "evidence/provenance.dsse.json"


def check_provenance(
    folder: Folder, payload: Payload, record: ReleaseRecord, signer: Signer
) -> Iterator[Finding]:
    """Hold the statement against keys, payload lists, manifest, release record and evidence.

    Raises:
        TrustError: it is missing, is signed by another key, or is something else.
    """
    statement, _ = open_envelope(folder.json(PROVENANCE), signer.accepted, PROVENANCE)
    predicate = predicate_of(statement, PREDICATE, PROVENANCE)
    subjects = digests(statement["subject"], PROVENANCE)
    release_name = f"{payload.manifest['model']}/{payload.manifest['variant']}"
    expected = {release_name: payload.artifact_sha256, **payload.digests}
    if subjects != expected:
        different = sorted(
            name
            for name in subjects.keys() | expected.keys()
            if subjects.get(name) != expected.get(name)
        )
        what = f"is about other files: {', '.join(different[:3])}"
        yield Finding("inconsistent-provenance", what, PROVENANCE)
    definition = member(predicate, dict, "buildDefinition", where=PROVENANCE)
    parameters = member(definition, dict, "externalParameters", where=PROVENANCE)
    recipe = member(parameters, dict, "recipe", where=PROVENANCE)
    for key in ("model", "variant", "version"):
        if parameters.get(key) != getattr(record, key):
            yield _contradiction(key, RELEASE)
    for key in ("model", "variant"):
        if parameters.get(key) != payload.manifest[key]:
            yield _contradiction(key, MANIFEST)
    for key in ("converter", "format", "precision"):
        if recipe.get(key) != payload.manifest[key]:
            yield _contradiction(f"recipe.{key}", MANIFEST)
    if record.artifact_sha256 != payload.artifact_sha256:
        yield Finding("inconsistent-provenance", "is about another artifact", RELEASE)
    listed = member(definition, list, "resolvedDependencies", where=PROVENANCE)
    dependencies = digests(listed, PROVENANCE)
    for name, digest in _built_from(payload.manifest).items():
        if dependencies.get(name) != digest:
            yield _contradiction(f"the dependency {name}", MANIFEST)
    yield from _check_evidence(folder, predicate)


def _contradiction(what: str, source: str) -> Finding:
    return Finding("inconsistent-provenance", f"{what} is not what {source} says", PROVENANCE)


def _check_evidence(folder: Folder, predicate: dict[str, Any]) -> Iterator[Finding]:
    byproducts = member(predicate, list, "runDetails", "byproducts", where=PROVENANCE)
    listed = digests(byproducts, PROVENANCE)
    present = {*folder.below(EVIDENCE), CARD} & folder.sizes.keys()
    for name in sorted(listed.keys() - present):
        yield Finding("missing-evidence", "the provenance names it, and it is missing", name)
    for name in sorted(present - listed.keys() - {PROVENANCE, *ADDED_LATER}):
        yield Finding("extra-file", "the provenance does not name it", name)
    for name in sorted(listed.keys() & present):
        if folder.sha256(name, MAX_DOCUMENT) != listed[name]:
            yield Finding("changed-evidence", "is not what the provenance says", name)
    if not any(name.startswith(KEYS) for name in listed):
        yield Finding("missing-evidence", "the provenance names no key", PROVENANCE)


def _built_from(manifest: Any) -> dict[str, str]:
    """What a manifest says the payload was made of, named as in the provenance."""
    files = {
        f"source/{member(entry, str, 'path', where=MANIFEST)}": member(
            entry, str, "sha256", where=MANIFEST
        )
        for entry in member(manifest, list, "source", "files", where=MANIFEST)
    }
    if "derived_from" in manifest:
        variant = member(manifest, str, "derived_from", "variant", where=MANIFEST)
        base = member(manifest, str, "derived_from", "artifact_sha256", where=MANIFEST)
        files[f"{manifest['model']}/{variant}"] = base
    return files
