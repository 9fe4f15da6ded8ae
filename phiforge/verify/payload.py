"""Hold the payload against its checksums and its manifest."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS, name_problem
from phiforge.trust import TrustError
from phiforge.trust.document import MAX_DOCUMENT, member
from phiforge.verify.findings import Finding
from phiforge.verify.folder import Folder

MANIFEST = "MANIFEST.json"
CARD = "README.md"
EVIDENCE = "evidence/"
_LISTS = {CHECKSUMS, MANIFEST}


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
        TrustError: one of them is missing, or is not what it should be.
    """
    listed = folder.checksums(CHECKSUMS)
    artifact = folder.sha256(CHECKSUMS, MAX_DOCUMENT)
    manifest = folder.json(MANIFEST)
    for key in ("model", "variant", "format", "precision", "converter"):
        member(manifest, str, key, where=MANIFEST)
    member(manifest, list, "source", "files", where=MANIFEST)
    return Payload(artifact, {**listed, CHECKSUMS: artifact}, manifest)


def check_listing(
    folder: Folder, payload: Payload, added: Collection[str] = ()
) -> Iterator[Finding]:
    """Hold names and sizes against the lists, and the lists against each other; nothing is read.

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
    described = described_files(payload.manifest)
    listed = {name: digest for name, digest in payload.digests.items() if name not in _LISTS}
    if {name: digest for name, (digest, _) in described.items()} != listed:
        yield Finding("inconsistent-manifest", f"does not list what {CHECKSUMS} lists", MANIFEST)
    for name in sorted(listed.keys() & top):
        size = described[name][1] if name in described else None
        if folder.sizes[name] != size:
            what = f"expected {size} bytes, found {folder.sizes[name]}"
            yield Finding("changed-file", what, name)


def check_digests(folder: Folder, payload: Payload) -> Iterator[Finding]:
    """Read the payload, and hold its digests against the list.

    How long that takes is the sender's choice, so the caller has looked at the signature before;
    a file of another size than the manifest's is not read.
    """
    described = described_files(payload.manifest)
    for name in sorted(payload.digests.keys() & folder.sizes.keys()):
        if name in _LISTS or described.get(name, ("", -1))[1] == folder.sizes[name]:
            digest = folder.sha256(name, MAX_DOCUMENT if name in _LISTS else None)
            if digest != payload.digests[name]:
                what = f"expected sha256 {payload.digests[name]}, found {digest}"
                yield Finding("changed-file", what, name)


def described_files(manifest: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Return name to digest and size of every file that a manifest describes.

    Raises:
        TrustError: ``malformed``, ``hostile-name`` or ``duplicate-path``.
    """
    described: dict[str, tuple[str, int]] = {}
    for entry in member(manifest, list, "files", where=MANIFEST):
        name = member(entry, str, "path", where=MANIFEST)
        if problem := name_problem(name):
            raise TrustError("hostile-name", f"'{name}' {problem}", MANIFEST)
        if name in described:
            raise TrustError("duplicate-path", f"'{name}' is listed twice", MANIFEST)
        digest = member(entry, str, "sha256", where=MANIFEST)
        described[name] = (digest, member(entry, int, "size", where=MANIFEST))
    return described
