"""Keep the versions of a variant in a storage, and a pointer to the latest.

    <url>/<model>/<variant>/<version>-<release_sha256, 12 digits>/…   complete releases
    <url>/<model>/<variant>/latest.json                             the pointer, written last
    <url>/<model>/<variant>/revocations.json                        what was revoked, if anything

A version's folder is named after every byte in it and is never written again once the pointer
lists it; who starts from ``latest.json`` sees the old version or the new one, complete.
"""

import re
from collections.abc import Mapping
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.publish import PublishError, Removal
from phiforge.publish.revocations import RevocationList
from phiforge.publish.snapshot import File, ReleaseSnapshot
from phiforge.publish.storage_client import StorageClient
from phiforge.settings.config import Storage
from phiforge.trust import TrustError
from phiforge.trust.document import member, parse_json
from phiforge.verify.revocations import REVOCATIONS, Revocation

LATEST = "latest.json"
SCHEMA = "phiforge/published/1"
_VERSION_FOLDER = re.compile(r"[^/]+-[0-9a-f]{12}")


class StorageRepository:
    """The folder of one variant in a storage."""

    def __init__(self, storage: Storage, model: str, variant: str) -> None:
        self._client = StorageClient(storage)
        self._model, self._variant = model, variant
        self._name = f"{model}/{variant}"
        self.address = self._client.address(self._name)

    def push_revocations(self, local: tuple[Revocation, ...]) -> str | None:
        """Publish revocations and point away from what they revoke; None: nothing changed.

        The list goes first and the pointer last: a pointer never moves for a reason that nobody
        can read, and the next run moves one that was left.
        """
        pointer = self._read_pointer()
        revocations = self._revocations(local)
        if not pointer or not revocations.records:
            return None
        moved = self._pointer_to(pointer["versions"], revocations)
        if not revocations.changed and moved == pointer:
            return None
        self._write_revocations(revocations)
        if moved != pointer:
            self._write_pointer(moved)
        return f"published {revocations.summary}: {self.address}/{REVOCATIONS}"

    def publish(self, release: ReleaseSnapshot, local: tuple[Revocation, ...]) -> str:
        """Upload what is missing, read it back, and point to it last; report it in one line.

        Args:
            local: this machine's revocations of the variant; they join those of the storage.

        Raises:
            PublishError: the version is published with other bytes or was revoked, or the
                storage refuses.
        """
        pointer = self._read_pointer()
        versions: list[dict[str, Any]] = pointer.get("versions", [])
        self._refuse_version(release, versions)
        revocations = self._revocations(local)
        revocations.refuse(release)
        self._write_revocations(revocations)
        folder = f"{release.version}-{release.release_sha256[:12]}"
        if pointer.get("latest") == folder:
            return f"{release.name} is published already: {self.address}/{folder}"
        files = sorted(release.files.items())
        uploaded = sum(self._upload(file, f"{folder}/{name}") for name, file in files)
        entry = {
            "folder": folder,
            "version": release.version,
            "channel": release.channel,
            "artifact_sha256": release.artifact_sha256,
            "release_sha256": release.release_sha256,
            "files": {name: {"size": file.size, "sha256": file.sha256} for name, file in files},
        }
        kept = [version for version in versions if version["folder"] != folder]
        self._write_pointer(self._pointer_to([*kept, entry], revocations))
        count = f"{uploaded} of {len(files)} files uploaded"
        return f"published {release.name}: {self.address}/{folder}, {count}"

    def removals(self, keep: int) -> list[Removal]:
        """List what pruning to ``keep`` versions removes, and what is in no version."""
        pointer = self._read_pointer()
        versions = pointer.get("versions", [])
        removals = [
            Removal(
                version["folder"],
                f"{keep} newer are kept",
                tuple(version["files"]),
                sum(file["size"] for file in version["files"].values()),
            )
            for version in versions[:-keep]
            if version["folder"] != pointer["latest"]
        ]
        unlisted: dict[str, list[str]] = {}
        for path in self._client.find(self._name):
            folder, _, name = path.partition("/")
            if _VERSION_FOLDER.fullmatch(folder):
                unlisted.setdefault(folder, []).extend([name] if name else [])
        for version in versions:
            unlisted.pop(version["folder"], None)
        why = "its upload did not end"
        return removals + [Removal(name, why, tuple(files)) for name, files in unlisted.items()]

    def remove(self, removals: list[Removal]) -> None:
        """Remove these versions: first from the pointer, then their files."""
        folders = {removal.what for removal in removals}
        versions = self._read_pointer().get("versions", [])
        kept = [version for version in versions if version["folder"] not in folders]
        if kept != versions:
            self._write_pointer(self._pointer_to(kept, self._revocations(())))
        for folder in folders:
            self._client.remove_folder(f"{self._name}/{folder}")

    def _upload(self, file: File, name: str) -> bool:
        """Upload a file unless it is there, and read it back; whether it was uploaded."""
        path = f"{self._name}/{name}"
        if self._client.sha256(path) == file.sha256:
            return False
        self._client.upload(file.path, path)
        stored = self._client.sha256(path)
        if stored != file.sha256:
            raise PublishError(
                "the storage returns other bytes than it was given",
                where=self._client.address(path),
                expected=file.sha256,
                found=stored,
                remedy="run again; a file that is not as it should be is uploaded again",
            )
        return True

    def _refuse_version(self, release: ReleaseSnapshot, versions: list[dict[str, Any]]) -> None:
        for version in versions:
            if version["version"] != release.version:
                continue
            if version["artifact_sha256"] != release.artifact_sha256:
                raise PublishError(
                    f"version {release.version} is published with other bytes",
                    where=f"{self.address}/{LATEST}",
                    expected=version["artifact_sha256"],
                    found=release.artifact_sha256,
                    remedy="raise 'version' in config/config.yaml and build again",
                )
            if "revoked" in version:  # revocations.json may be lost
                raise PublishError(
                    f"version {release.version} was revoked there: {version['revoked']}",
                    where=f"{self.address}/{LATEST}",
                    remedy="raise 'version' in config/config.yaml and build other bytes",
                )

    def _pointer_to(
        self, versions: list[dict[str, Any]], revocations: RevocationList
    ) -> dict[str, Any]:
        """Make ``latest.json``: the last version that was not revoked is the latest."""
        listed = []
        latest = None
        for version in versions:
            revocation = revocations.find(version["version"], version["artifact_sha256"])
            listed.append({**version, "revoked": revocation.reason} if revocation else version)
            if "revoked" not in listed[-1]:  # a mark stays, whatever became of the list
                latest = version["folder"]
        return {
            "schema": SCHEMA,
            "model": self._model,
            "variant": self._variant,
            "latest": latest,
            "versions": listed,
        }

    def _read_pointer(self) -> Mapping[str, Any]:
        """Read ``latest.json``; empty where nothing was published."""
        data = self._client.read(f"{self._name}/{LATEST}")
        if data is None:
            return {}
        where = f"{self.address}/{LATEST}"
        try:
            pointer = parse_json(data, where)
            _check_pointer(pointer, where)
        except TrustError as error:
            raise PublishError(
                f"is not what phiforge writes there ({error.name}: {error.what})",
                where=where,
                remedy="choose another folder, or repair the file",
            ) from None
        return pointer

    def _write_pointer(self, pointer: Mapping[str, Any]) -> None:
        self._client.write(f"{self._name}/{LATEST}", canonical(pointer).encode())

    def _revocations(self, local: tuple[Revocation, ...]) -> RevocationList:
        data = self._client.read(f"{self._name}/{REVOCATIONS}")
        return RevocationList(self._name, local, data, f"{self.address}/{REVOCATIONS}")

    def _write_revocations(self, revocations: RevocationList) -> None:
        if revocations.changed:
            self._client.write(f"{self._name}/{REVOCATIONS}", revocations.encode())


def _check_pointer(pointer: Mapping[str, Any], where: str) -> None:
    """Refuse a ``latest.json`` that lacks what is read of it: whoever writes there wrote it."""
    if pointer.get("schema") != SCHEMA:
        raise TrustError("malformed", f"its schema is not {SCHEMA}", where)
    folders = []
    for number in range(len(member(pointer, list, "versions", where=where))):
        for key in ("folder", "version", "channel", "artifact_sha256", "release_sha256"):
            member(pointer, str, "versions", number, key, where=where)
        for file in member(pointer, dict, "versions", number, "files", where=where).values():
            member(file, int, "size", where=where)
        folder = pointer["versions"][number]["folder"]
        if not _VERSION_FOLDER.fullmatch(folder):
            raise TrustError("malformed", f"{folder!r} is no version's folder", where)
        folders.append(folder)
    if pointer.get("latest") not in [None, *folders]:
        raise TrustError("malformed", "its 'latest' is none of its versions", where)
