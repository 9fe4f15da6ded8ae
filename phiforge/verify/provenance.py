"""The release's signed statement: SLSA provenance, and the digest of every piece of evidence.

Format: https://slsa.dev/spec/v1.0/provenance. ``byproducts`` lists the card and all evidence but
the statement itself, so one signature covers what stands beside the payload.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import MAX_DOCUMENT, Folder, member
from phiforge.verify.payload import CARD, EVIDENCE, MANIFEST, Payload
from phiforge.verify.signatures import open_envelope
from phiforge.verify.trust import KEYS, RELEASE, Signer

PROVENANCE = "evidence/provenance.dsse.json"
PREDICATE = "https://slsa.dev/provenance/v1"
# Signed statements that may join a release after it was made, each by a key that is accepted.
ADDED_LATER = ("evidence/promotion.dsse.json", "evidence/reproduce.dsse.json")


def read_provenance(folder: Folder, signer: Signer) -> dict[str, Any]:
    """The statement, if an accepted key signed it.

    Raises:
        Refusal: it is missing, is signed by another key, or is something else.
    """
    statement, _ = open_envelope(folder.json(PROVENANCE), signer.accepted, PROVENANCE)
    if statement["predicateType"] != PREDICATE:
        raise Refusal("malformed", f"does not hold {PREDICATE}", PROVENANCE)
    return statement


def check_provenance(
    folder: Folder,
    statement: Mapping[str, Any],
    payload: Payload,
    record: Mapping[str, Any],
) -> Iterator[Finding]:
    """Hold the statement against payload, manifest, release record and evidence."""
    subjects = _digests(statement["subject"])
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
    definition = member(statement, dict, "predicate", "buildDefinition", where=PROVENANCE)
    parameters = member(definition, dict, "externalParameters", where=PROVENANCE)
    recipe = member(parameters, dict, "recipe", where=PROVENANCE)
    for key in ("model", "variant", "version"):
        if parameters.get(key) != record.get(key):
            yield _contradiction(key, RELEASE)
    for key in ("model", "variant"):
        if parameters.get(key) != payload.manifest[key]:
            yield _contradiction(key, MANIFEST)
    for key in ("converter", "format", "precision"):
        if recipe.get(key) != payload.manifest[key]:
            yield _contradiction(f"recipe.{key}", MANIFEST)
    if record.get("artifact_sha256") != payload.artifact_sha256:
        yield Finding("inconsistent-provenance", "is about another artifact", RELEASE)
    dependencies = _digests(member(definition, list, "resolvedDependencies", where=PROVENANCE))
    for name, digest in _built_from(payload.manifest).items():
        if dependencies.get(name) != digest:
            yield _contradiction(f"the dependency {name}", MANIFEST)
    yield from _check_evidence(folder, statement)


def _contradiction(what: str, source: str) -> Finding:
    return Finding("inconsistent-provenance", f"{what} is not what {source} says", PROVENANCE)


def _check_evidence(folder: Folder, statement: Mapping[str, Any]) -> Iterator[Finding]:
    byproducts = member(statement, list, "predicate", "runDetails", "byproducts", where=PROVENANCE)
    listed = _digests(byproducts)
    present = {*folder.below(EVIDENCE), CARD} & folder.sizes.keys()
    for name in sorted(listed.keys() - present):
        yield Finding("missing-evidence", "the provenance names it, and it is not there", name)
    for name in sorted(present - listed.keys() - {PROVENANCE, *ADDED_LATER}):
        yield Finding("extra-file", "the provenance does not name it", name)
    for name in sorted(listed.keys() & present):
        if folder.sha256(name, MAX_DOCUMENT) != listed[name]:
            yield Finding("changed-evidence", "is not what the provenance says", name)
    if not any(name.startswith(KEYS) for name in listed):
        yield Finding("missing-evidence", "the provenance names no key", PROVENANCE)


def _built_from(manifest: Mapping[str, Any]) -> dict[str, str]:
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


def _digests(descriptors: Any) -> dict[str, str]:
    """Name to SHA-256 of in-toto resource descriptors; one without is left out."""
    found: dict[str, str] = {}
    for descriptor in descriptors:
        name = member(descriptor, str, "name", where=PROVENANCE)
        if name in found:
            raise Refusal("duplicate-path", f"'{name}' stands twice", PROVENANCE)
        digest = member(descriptor, dict, "digest", where=PROVENANCE)
        if isinstance(digest.get("sha256"), str):
            found[name] = digest["sha256"]
    return found
