"""The payload against its checksums and its manifest: every digest, nothing missing or extra."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS, name_problem
from phiforge.verify.findings import Finding, Refusal
from phiforge.verify.folder import MAX_DOCUMENT, Folder, member

MANIFEST = "MANIFEST.json"
CARD = "README.md"
EVIDENCE = "evidence/"


@dataclass(frozen=True)
class Payload:
    """What a folder's own lists say, once they have been held against its bytes.

    Attributes:
        artifact_sha256: SHA-256 of SHA256SUMS, the artifact's name.
        digests: every payload file, SHA256SUMS included, to hex SHA-256.
        manifest: MANIFEST.json.
    """

    artifact_sha256: str
    digests: Mapping[str, str]
    manifest: Mapping[str, Any]


def read_payload(folder: Folder) -> Payload:
    """Read both lists; nothing is compared yet.

    Raises:
        Refusal: one of them is missing, or is not what it should be.
    """
    listed = folder.checksums(CHECKSUMS)
    artifact = folder.sha256(CHECKSUMS, MAX_DOCUMENT)
    manifest = folder.json(MANIFEST)
    for key in ("model", "variant", "format", "precision", "converter"):
        member(manifest, str, key, where=MANIFEST)
    member(manifest, list, "source", "files", where=MANIFEST)
    return Payload(artifact, {**listed, CHECKSUMS: artifact}, manifest)


def check_payload(
    folder: Folder, payload: Payload, added: Collection[str] = ()
) -> Iterator[Finding]:
    """Hold the folder's files against the lists, and the lists against each other.

    Args:
        added: names of files that may be there though no list has them.
    """
    top = {name for name in folder.sizes if name != CARD and not name.startswith(EVIDENCE)}
    for name in sorted(payload.digests.keys() - top):
        yield Finding("missing-file", f"listed in {CHECKSUMS}, and not there", name)
    for name in sorted(top - payload.digests.keys() - {*added}):
        yield Finding("extra-file", f"not listed in {CHECKSUMS}", name)
    if CARD not in folder.sizes:
        yield Finding("missing-file", "a release has a card", CARD)
    try:
        described = _described(payload.manifest)
    except Refusal as refusal:
        yield refusal.finding
        return
    own = {CHECKSUMS, MANIFEST}
    listed = {name: digest for name, digest in payload.digests.items() if name not in own}
    if {name: digest for name, (digest, _) in described.items()} != listed:
        yield Finding("inconsistent-manifest", f"does not list what {CHECKSUMS} lists", MANIFEST)
    for name in sorted(payload.digests.keys() & top):
        if name not in own:
            # How long it would take to read the file is its sender's choice; its size is not.
            size = described[name][1] if name in described else None
            if folder.sizes[name] != size:
                what = f"expected {size} bytes, found {folder.sizes[name]}"
                yield Finding("changed-file", what, name)
                continue
        found = folder.sha256(name)
        if found != payload.digests[name]:
            what = f"expected sha256 {payload.digests[name]}, found {found}"
            yield Finding("changed-file", what, name)


def _described(manifest: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Digest and size of every file that a manifest describes."""
    described: dict[str, tuple[str, int]] = {}
    for entry in member(manifest, list, "files", where=MANIFEST):
        name = member(entry, str, "path", where=MANIFEST)
        if problem := name_problem(name):
            raise Refusal("hostile-name", f"'{name}' {problem}", MANIFEST)
        if name in described:
            raise Refusal("duplicate-path", f"'{name}' stands twice", MANIFEST)
        digest = member(entry, str, "sha256", where=MANIFEST)
        described[name] = (digest, member(entry, int, "size", where=MANIFEST))
    return described
