"""State where a release comes from: an in-toto statement with the SLSA v1 provenance predicate.

Format: https://slsa.dev/spec/v1.0/provenance. It names no path, host, user or time; two builds of
one commit differ in their signatures only.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.origin import PREDICTIONS_TAKEN, read_origin
from phiforge.trust.statement import PROVENANCE, descriptor, statement

CACHED = "cache/"
BUILD_TYPE = "urn:phiforge:release:v1"


def provenance(
    build: Mapping[str, Any],
    recipe: Mapping[str, Any],
    *,
    version: str,
    channel: str,
    builder: str,
    payload: Mapping[str, str],
    byproducts: Mapping[str, str],
    environments: Collection[str] = (),
    taken: Collection[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the statement about a release.

    Args:
        build: BUILD.json.
        recipe: the variant's block of config/variants.yaml, what the converter was given.
        builder: URI of who runs this (config key ``builder``).
        payload: every payload file, SHA256SUMS included, to hex SHA-256.
        byproducts: the card and every other piece of evidence to hex SHA-256.
        environments: other locked environments that the payload was made or checked in.
        taken: what came from a shared cache (`taken_from_cache`).
    """
    name = f"{build['model']}/{build['variant']}"
    return statement(
        {name: build["artifact_sha256"], **payload},
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "model": build["model"],
                    "variant": build["variant"],
                    "version": version,
                    "channel": channel,
                    "recipe": dict(recipe),
                },
                "internalParameters": {
                    "toolchain": build["toolchain"],
                    "resolved_recipe": build["recipe"],
                },
                "resolvedDependencies": [*_dependencies(build, environments), *taken],
            },
            "runDetails": {
                "builder": {"id": builder},
                "byproducts": [descriptor(one, byproducts[one]) for one in sorted(byproducts)],
            },
        },
    )


def _dependencies(
    build: Mapping[str, Any], environments: Collection[str]
) -> Iterator[dict[str, Any]]:
    source = build["source"]
    hub = source_purl(source)
    if hub:
        yield {"name": "source", "uri": hub, "digest": {"gitCommit": source["revision"]}}
    for file in source["files"]:
        found = descriptor(f"source/{file['path']}", file["sha256"])
        yield {**found, "uri": f"{hub}#{file['path']}"} if hub else found
    if "derived_from" in build:
        base = build["derived_from"]
        yield descriptor(f"{build['model']}/{base['variant']}", base["artifact_sha256"])
    # A build of before provenance was recorded does not know by which state it was made.
    project = build.get("project", {})
    if project.get("lock_sha256"):
        yield descriptor("envs/main.lock", project["lock_sha256"])
    for name, lock_sha256 in sorted(project.get("environments", {}).items()):
        if name in environments:
            yield descriptor(f"envs/{name}.lock", lock_sha256)
    if project.get("commit"):
        yield {
            "name": "phiforge",
            "digest": {"gitCommit": project["commit"]},
            "annotations": {"clean": project["clean"]},
        }


def taken_from_cache(
    build: Mapping[str, Any], receipts: Mapping[Path, Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """Describe what of a release came from a shared cache, and who made it.

    Args:
        build: BUILD.json.
        receipts: receipt files and what they say.
    """
    about = f"{build['model']}/{build['variant']}"
    if "cache" in build:
        yield _taken(f"build/{about}", {**build["cache"], "sha256": build["artifact_sha256"]})
    shared: dict[str, Mapping[str, Any]] = {}  # what several receipts rest on
    for path, receipt in receipts.items():
        checked = f"{receipt['model']}/{receipt['variant']}"
        if (origin := read_origin(path)) is not None:
            yield _taken(f"checks/{checked}/{path.name}", origin)
        for top in path.absolute().parents[3:4]:  # artifacts/checks/MODEL/VARIANT/ROW.json
            name = f"reference/{build['model']}/REFERENCE.json"
            reference = read_origin(top / name)
            if reference is not None and reference["sha256"] == receipt["reference_sha256"]:
                shared[name] = reference
            name = f"predictions/{checked}/PREDICTIONS.json"
            if _rests_on_taken_predictions(receipt) and (origin := read_origin(top / name)):
                shared[name] = origin
    for name, origin in shared.items():
        yield _taken(name, origin)


def _rests_on_taken_predictions(receipt: Mapping[str, Any]) -> bool:
    return any(note["name"] == PREDICTIONS_TAKEN for note in receipt["lint"])


def is_taken(statement: Mapping[str, Any]) -> bool:
    """Say whether the payload that a provenance is about came from a shared cache."""
    name = f"{CACHED}build/{statement['subject'][0]['name']}"
    dependencies = statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return any(one["name"] == name for one in dependencies)


def _taken(name: str, origin: Mapping[str, Any]) -> dict[str, Any]:
    maker = {one: origin[one] for one in ("builder", "keyid", "key")}
    return {**descriptor(f"{CACHED}{name}", origin["sha256"]), "annotations": maker}


def source_purl(source: Mapping[str, Any]) -> str | None:
    """Return the package URL of a Hub commit; None: a local checkpoint has none.

    >>> source_purl({"kind": "hub", "repo": "microsoft/Phi-3", "revision": "0f" * 20})
    'pkg:huggingface/microsoft/Phi-3@0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
    """
    if source["kind"] != "hub":
        return None
    return f"pkg:huggingface/{source['repo']}@{source['revision']}"
