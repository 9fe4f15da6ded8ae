"""State where a release comes from: an in-toto statement with the SLSA v1 provenance predicate.

Format: https://slsa.dev/spec/v1.0/provenance. It names no path, host, user or time; two builds of
one commit differ in their signatures only.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from phiforge.trust.statement import PROVENANCE, descriptor, statement

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
) -> dict[str, Any]:
    """Return the statement about a release.

    Args:
        build: BUILD.json.
        recipe: the variant's block of config/variants.yaml, what the converter was given.
        builder: URI of who runs this (config key ``builder``).
        payload: every payload file, SHA256SUMS included, to hex SHA-256.
        byproducts: the card and every other piece of evidence to hex SHA-256.
        environments: other locked environments that the payload was made or checked in.
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
                "resolvedDependencies": list(_dependencies(build, environments)),
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


def source_purl(source: Mapping[str, Any]) -> str | None:
    """Return the package URL of a Hub commit; None: a local checkpoint has none.

    >>> source_purl({"kind": "hub", "repo": "microsoft/Phi-3", "revision": "0f" * 20})
    'pkg:huggingface/microsoft/Phi-3@0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f'
    """
    if source["kind"] != "hub":
        return None
    return f"pkg:huggingface/{source['repo']}@{source['revision']}"
