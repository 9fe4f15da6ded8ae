"""MANIFEST.json and SHA256SUMS: what a payload is, and the digest that names it.

``SHA256SUMS`` lists every payload file but itself, in the format of coreutils' sha256sum;
``artifact_sha256`` is the SHA-256 of that file. Nothing here depends on time, place or person.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS, ChecksumsError, parse_checksums
from phiforge.artifact.file_digest import FileDigest
from phiforge.artifact.record import write_record, write_text
from phiforge.artifact.tree import files_under, sha256_file
from phiforge.errors import PhiforgeError

MANIFEST = "MANIFEST.json"


class PayloadError(PhiforgeError):
    """A payload holds what it must not, or its files are not what its checksums say."""


def write_manifest(
    payload: Path,
    facts: Mapping[str, Any],
    denied_strings: Sequence[str] = (),
    digests: Mapping[Path, FileDigest] | None = None,
) -> str:
    """Write the manifest and checksums of a finished payload; return its ``artifact_sha256``.

    Args:
        payload: folder with everything a runtime loads, and LICENSE.
        facts: what the manifest says beside the files: model, source, recipe, toolchain.
        denied_strings: texts that must not occur in any byte of the payload (paths, commits).
        digests: by name below ``payload``, of files that were digested while they were written,
            and searched for the same strings.

    Raises:
        PayloadError: a denied string occurs; the message names file and string.
    """
    digests = digests or {}
    files = [
        _describe(name, digests.get(name) or FileDigest.of(payload / name, denied_strings))
        for name in files_under(payload)
    ]
    write_record(payload / MANIFEST, {**facts, "files": files})
    listed = {entry["path"]: entry["sha256"] for entry in files}
    manifest = _describe(Path(MANIFEST), FileDigest.of(payload / MANIFEST, denied_strings))
    listed[MANIFEST] = manifest["sha256"]
    write_text(payload / CHECKSUMS, "".join(f"{listed[name]}  {name}\n" for name in sorted(listed)))
    return sha256_file(payload / CHECKSUMS)


def _describe(name: Path, digest: FileDigest) -> dict[str, Any]:
    if digest.denied is not None:
        raise PayloadError(
            f"'{digest.denied}' of this machine or checkout is in the payload",
            where=name,
            expected="bytes that are the same wherever they are built",
            found="a path or commit",
            remedy="this is a defect of the converter; report it",
        )
    return {"path": name.as_posix(), "size": digest.size, "sha256": digest.sha256}


def read_checksums(payload: Path) -> dict[str, str]:
    """Return file name to hex SHA-256, as the payload's ``SHA256SUMS`` lists them.

    Raises:
        PayloadError: the file is missing, or is not in sha256sum's format.
    """
    path = payload / CHECKSUMS
    try:
        return parse_checksums(path.read_text(encoding="utf-8"), path)
    except FileNotFoundError:
        raise PayloadError(
            "checksums are missing", where=path, remedy="build the variant again"
        ) from None
    except ChecksumsError as error:
        raise PayloadError(str(error), remedy="build the variant again") from None


def verify(payload: Path) -> str:
    """Hold every file against ``SHA256SUMS``; return ``artifact_sha256``.

    Raises:
        PayloadError: the first file that is missing, extra or different, by name.
    """
    listed = read_checksums(payload)
    present = {name.as_posix() for name in files_under(payload)} - {CHECKSUMS}
    for name in sorted(listed.keys() - present):
        raise PayloadError("payload file is missing", where=payload / name)
    for name in sorted(present - listed.keys()):
        raise PayloadError(f"payload file is not listed in {CHECKSUMS}", where=payload / name)
    for name, expected in sorted(listed.items()):
        found = sha256_file(payload / name)
        if found != expected:
            raise PayloadError(
                "payload file changed since it was built",
                where=payload / name,
                expected=expected,
                found=found,
                remedy="build the variant again",
            )
    return sha256_file(payload / CHECKSUMS)
