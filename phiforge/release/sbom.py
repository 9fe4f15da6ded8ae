"""Write the bill of materials of a release: CycloneDX 1.6, a model and what made it.

Format: https://cyclonedx.org/docs/1.6/json/. The same artifact and version give the same bytes:
the serial number is derived from both, and there is no timestamp.
"""

import importlib.metadata
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cyclonedx.factory.license import LicenseFactory
from cyclonedx.model import (
    AttachedText,
    ExternalReference,
    ExternalReferenceType,
    HashAlgorithm,
    HashType,
    Property,
    XsUri,
)
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentScope, ComponentType, Pedigree
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from phiforge.release.provenance import source_purl

_LONGEST_LICENCE_NAME = 200


def bill_of_materials(
    build: Mapping[str, Any],
    receipts: Sequence[Mapping[str, Any]],
    payload: Path,
    digests: Mapping[str, str],
    version: str,
) -> dict[str, Any]:
    """Make the CycloneDX document, in JSON's types.

    Args:
        build: BUILD.json.
        receipts: their metrics become the model card's performance metrics.
        payload: folder of the payload; its licence text and architecture are read.
        digests: every payload file to hex SHA-256.
    """
    name = f"{build['model']}/{build['variant']}"
    base = _base_model(build)
    model = Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=name,
        version=version,
        bom_ref=f"model:{name}",
        description=f"{build['title']}, {build['format']}, {build['precision']}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=build["artifact_sha256"])],
        licenses=[_licence(build["license"], (payload / "LICENSE").read_text("utf-8"))],
        pedigree=Pedigree(ancestors=[base]),
        external_references=list(_references(digests)),
        components=[_file(name, sha256) for name, sha256 in sorted(digests.items())],
        properties=[
            Property(name=f"phiforge:recipe:{key}", value=json.dumps(value, sort_keys=True))
            for key, value in sorted(build["recipe"].items())
        ],
    )
    identity = f"{build['artifact_sha256']}:{version}"
    tools = [_tool(package, pinned) for package, pinned in sorted(_toolchain(build).items())]
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"urn:sha256:{identity}"),
        components=tools,
        dependencies=[
            Dependency(model.bom_ref, dependencies=[Dependency(tool.bom_ref) for tool in tools]),
            *(Dependency(tool.bom_ref) for tool in tools),
        ],
    )
    bom.metadata.component = model
    document: dict[str, Any] = json.loads(JsonV1Dot6(bom).output_as_string())
    document["metadata"].pop("timestamp", None)  # optional, and not the same twice
    # cyclonedx-python-lib has no model card yet; the strict validator holds this to the schema.
    document["metadata"]["component"]["modelCard"] = _model_card(build, receipts, payload)
    return document


def _base_model(build: Mapping[str, Any]) -> Component:
    source = build["source"]
    purl = source_purl(source)
    weights = [file for file in source["files"] if file["path"].endswith(".safetensors")]
    return Component(
        type=ComponentType.MACHINE_LEARNING_MODEL,
        name=build["title"],
        version=source.get("revision"),
        purl=PackageURL.from_string(purl) if purl else None,
        bom_ref="model:base",
        licenses=[_licence(build["license"])],
        components=[_file(file["path"], file["sha256"], "base") for file in weights],
    )


def _file(name: str, sha256: str, owner: str = "payload") -> Component:
    return Component(
        type=ComponentType.FILE,
        name=name,
        bom_ref=f"{owner}:{name}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
    )


def _references(digests: Mapping[str, str]) -> Iterator[ExternalReference]:
    """List where to read on, relative to the release folder."""
    for kind, name in (
        (ExternalReferenceType.MODEL_CARD, "README.md"),
        (ExternalReferenceType.LICENSE, "LICENSE"),
        (ExternalReferenceType.ATTESTATION, "evidence/provenance.dsse.json"),
        (ExternalReferenceType.DIGITAL_SIGNATURE, "evidence/model.sig"),
        (ExternalReferenceType.EVIDENCE, "evidence/receipts/"),
    ):
        yield ExternalReference(type=kind, url=XsUri(name))
    for name in sorted(digests):
        if name.startswith("NOTICE"):
            yield ExternalReference(
                type=ExternalReferenceType.OTHER, url=XsUri(name), comment="third-party notices"
            )


def _toolchain(build: Mapping[str, Any]) -> dict[str, str]:
    """List the packages that shaped the bytes of the payload and of what it is derived from."""
    return {**build.get("derived_from", {}).get("toolchain", {}), **build["toolchain"]}


def _tool(package: str, version: str) -> Component:
    """Describe a Python distribution that was used and is not in the payload."""
    return Component(
        type=ComponentType.LIBRARY,
        name=package,
        version=version,
        purl=PackageURL("pypi", None, package, version),
        bom_ref=f"tool:{package}",
        scope=ComponentScope.EXCLUDED,
        licenses=_licences_of(package),
    )


def _licences_of(package: str) -> list[License]:
    """Read the licence of an installed distribution (core metadata 2.4, or older)."""
    try:
        metadata = importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        return []
    keys = ("License-Expression", "License")
    stated = next((str(metadata[key]) for key in keys if key in metadata), "")
    if stated and "\n" not in stated and len(stated) <= _LONGEST_LICENCE_NAME:
        return [_licence(stated)]
    classifiers = metadata.get_all("Classifier") or []
    names = {text.rsplit(" :: ", 1)[-1] for text in classifiers if text.startswith("License")}
    return [DisjunctiveLicense(name=name) for name in sorted(names)]


def _licence(name: str, text: str | None = None) -> License:
    """Make an SPDX id or expression where the name is one, else a licence of that name."""
    attached = AttachedText(content=text) if text else None
    return LicenseFactory().make_from_string(name, license_text=attached)


def _slice(build: Mapping[str, Any], receipt: Mapping[str, Any]) -> str:
    """Name where it was measured, and on which variant, if a blob's IR was in its place."""
    row: str = receipt["device"]
    return row if receipt["variant"] == build["variant"] else f"{row} of {receipt['variant']}"


def _model_card(
    build: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], payload: Path
) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "task": "text-generation",
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text"}],
    }
    config = payload / "config.json"
    if config.is_file():
        architecture = json.loads(config.read_text("utf-8"))
        if architecture.get("model_type"):
            parameters["architectureFamily"] = architecture["model_type"]
        if architecture.get("architectures"):
            parameters["modelArchitecture"] = architecture["architectures"][0]
    metrics = [
        {"type": metric, "value": repr(value), "slice": _slice(build, receipt)}
        for receipt in receipts
        if receipt["verdict"] == "passed"
        for metric, value in sorted(receipt["metrics"].items())
    ]
    card: dict[str, Any] = {"modelParameters": parameters}
    if metrics:
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    if build["notes"]:
        card["considerations"] = {"technicalLimitations": list(build["notes"])}
    return card
