"""Keep the ledger of a model: which bytes each version has, and which were revoked.

``artifacts/release/<model>/versions.json`` maps variant and version to ``artifact_sha256``. A
version never comes to mean other bytes; one that was revoked is never released again. Beside them
stands what each version changed of the one that it replaced.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from phiforge.artifact.file_lock import file_lock
from phiforge.artifact.record import read_record, write_record
from phiforge.errors import PhiforgeError

LEDGER = "versions.json"
SCHEMA = "phiforge/versions/1"
RELEASE = Path("evidence/release.json")


class VersionError(PhiforgeError):
    """A version cannot mean what it is asked to mean."""


@contextmanager
def ledger_lock(model_folder: Path) -> Iterator[None]:
    """Hold the model's ledger; variants that are staged at once wait for each other."""
    with file_lock(model_folder / f".{LEDGER}.lock"):
        yield


def versions_of(model_folder: Path, variant: str) -> dict[str, dict[str, Any]]:
    """Return version to ``{artifact_sha256, revoked}``, of the ledger and the release folder.

    A run that was killed after its release appeared and before the ledger was written is
    remembered by the release itself.
    """
    versions: dict[str, dict[str, Any]] = _ledger(model_folder)["versions"].get(variant, {})
    current = model_folder / variant / RELEASE
    if current.is_file():
        record = read_record(current)
        entry = {"artifact_sha256": record["artifact_sha256"], "revoked": None}
        versions.setdefault(record["version"], entry)
    return versions


def check_version(model_folder: Path, variant: str, version: str, artifact_sha256: str) -> None:
    """Refuse other bytes under a version that exists, and what was revoked.

    Raises:
        VersionError: in one line, with the remedy.
    """
    versions = versions_of(model_folder, variant)
    raised = "raise 'version' in config/config.yaml (or in the model's file)"
    for known, entry in versions.items():
        same = entry["artifact_sha256"] == artifact_sha256
        if entry["revoked"] is not None and (known == version or same):
            what = "was revoked" if known == version else f"has the bytes of {known}, revoked"
            raise VersionError(
                f"version {version} {what} ({entry['revoked']})",
                where=model_folder / variant,
                remedy=f"build other bytes and {raised}",
            )
    if version in versions and versions[version]["artifact_sha256"] != artifact_sha256:
        raise VersionError(
            f"version {version} exists with other bytes",
            where=model_folder / variant,
            expected=versions[version]["artifact_sha256"],
            found=artifact_sha256,
            remedy=f"{raised}; or revoke the old one (phiforge revoke)",
        )


def record_current(model_folder: Path, variant: str) -> None:
    """Enter the version in the release folder, which a killed run may have left out."""
    current = model_folder / variant / RELEASE
    if current.is_file():
        version = read_record(current)["version"]
        entry = versions_of(model_folder, variant)[version]
        record_version(model_folder, variant, version, entry["artifact_sha256"])


def record_version(
    model_folder: Path,
    variant: str,
    version: str,
    artifact_sha256: str,
    *,
    revoked: str | None = None,
) -> None:
    """Enter a version into the ledger; what it holds already is kept."""
    document = _ledger(model_folder)
    known = {**versions_of(model_folder, variant), **document["versions"].get(variant, {})}
    before = known.get(version, {})
    revoked = revoked or before.get("revoked")
    known[version] = {**before, "artifact_sha256": artifact_sha256, "revoked": revoked}
    document["versions"][variant] = known
    write_record(model_folder / LEDGER, document)


def record_changes(
    model_folder: Path, variant: str, version: str, after: str, changes: Sequence[Any]
) -> None:
    """Enter what a version changes of the one that it is about to replace.

    Before it does: a run that is killed in between would have nothing left to compare.
    """
    document = _ledger(model_folder)
    document["changes"].setdefault(variant, {})[version] = {"after": after, "changes": changes}
    write_record(model_folder / LEDGER, document)


def changes_of(model_folder: Path, variant: str) -> Mapping[str, Any]:
    """Return version to ``{after, changes}``, of those that replaced another here."""
    changes: Mapping[str, Any] = _ledger(model_folder)["changes"].get(variant, {})
    return changes


def _ledger(model_folder: Path) -> dict[str, Any]:
    empty = {"schema": SCHEMA, "model": model_folder.name, "versions": {}, "changes": {}}
    path = model_folder / LEDGER
    return {**empty, **read_record(path)} if path.is_file() else empty
