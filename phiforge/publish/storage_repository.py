"""Keep the versions of a variant in a storage, and a pointer to the latest.

    <url>/<model>/<variant>/<version>-<release_sha256, 12 digits>/…   complete releases
    <url>/<model>/<variant>/latest.json                             the pointer, written last
    <url>/<model>/<variant>/revocations.json                        what was revoked, if anything

A version's folder is named after every byte in it and is never written again once the pointer
lists it; who starts from ``latest.json`` sees the old version or the new one, complete.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.publish.policy import PublishError
from phiforge.publish.revocations import (
    Revocations,
    encode,
    find_revocation,
    merge,
    parse_published,
    refuse_revoked,
    versions_of,
)
from phiforge.publish.snapshot import File, ReleaseSnapshot
from phiforge.publish.storage_client import StorageClient
from phiforge.verify.revocations import REVOCATIONS

LATEST = "latest.json"
SCHEMA = "phiforge/published/1"
_VERSION_FOLDER = re.compile(r"[^/]+-[0-9a-f]{12}")


@dataclass(frozen=True)
class Removal:
    """What pruning removes: which version, why, and its files.

    Attributes:
        size: bytes, if known.
    """

    what: str
    why: str
    names: tuple[str, ...]
    size: int = 0


@dataclass(frozen=True)
class StorageRepository:
    """The folder of one variant in a storage."""

    client: StorageClient
    model: str
    variant: str

    @property
    def _name(self) -> str:
        return f"{self.model}/{self.variant}"

    def push_revocations(self, local: Revocations) -> str | None:
        """Publish revocations and point away from what they revoke; None: nothing changed.

        The list goes first and the pointer last: a pointer never moves for a reason that nobody
        can read, and the next run moves one that was left.
        """
        pointer = self._read_pointer()
        published = self._published_revocations()
        revocations = merge(published, local)
        if not pointer or not revocations:
            return None
        if revocations != published:
            self._write(REVOCATIONS, encode(revocations))
        moved = self._pointer_to(pointer["versions"], revocations)
        if moved != pointer:
            self._write(LATEST, canonical(moved).encode())
        if revocations == published and moved == pointer:
            return None
        where = self._address(REVOCATIONS)
        return f"published the revocation of {self._name} {versions_of(revocations)}: {where}"

    def publish(self, release: ReleaseSnapshot, local: Revocations) -> str:
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
        published = self._published_revocations()
        revocations = merge(published, local)
        refuse_revoked(
            revocations,
            self._name,
            release.version,
            release.artifact_sha256,
            self._address(REVOCATIONS),
        )
        if revocations != published:
            self._write(REVOCATIONS, encode(revocations))
        folder = f"{release.version}-{release.release_sha256[:12]}"
        where = self._address(folder)
        if pointer.get("latest") == folder:
            return f"{release.name} is published already: {where}"
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
        self._write(LATEST, canonical(self._pointer_to([*kept, entry], revocations)).encode())
        return f"published {release.name}: {where}, {uploaded} of {len(files)} files uploaded"

    def removals(self, keep: int) -> list[Removal]:
        """List what pruning to ``keep`` versions would remove."""
        pointer = self._read_pointer()
        versions = pointer.get("versions", [])
        found = [
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
        for path in self.client.find(self._name):
            folder, _, name = path.partition("/")
            if name and _VERSION_FOLDER.fullmatch(folder):
                unlisted.setdefault(folder, []).append(name)
        for version in versions:
            unlisted.pop(version["folder"], None)
        for folder, names in unlisted.items():
            found.append(Removal(folder, "its upload did not end", tuple(names)))
        return found

    def remove(self, removals: list[Removal]) -> None:
        """Remove these versions: first from the pointer, then their files."""
        folders = {removal.what for removal in removals}
        versions = self._read_pointer().get("versions", [])
        kept = [version for version in versions if version["folder"] not in folders]
        if kept != versions:
            pointer = self._pointer_to(kept, self._published_revocations())
            self._write(LATEST, canonical(pointer).encode())
        for folder in folders:
            self.client.remove_folder(f"{self._name}/{folder}")

    def _upload(self, file: File, name: str) -> bool:
        """Upload a file unless it is there, and read it back; whether it was uploaded."""
        place = f"{self._name}/{name}"
        if self.client.sha256(place) == file.sha256:
            return False
        self.client.upload(file.path, place)
        stored = self.client.sha256(place)
        if stored != file.sha256:
            raise PublishError(
                "the storage returns other bytes than it was given",
                where=self._address(name),
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
                    where=self._address(LATEST),
                    expected=version["artifact_sha256"],
                    found=release.artifact_sha256,
                    remedy="raise 'version' in config/config.yaml and build again",
                )
            if "revoked" in version:  # revocations.json may be lost
                raise PublishError(
                    f"version {release.version} was revoked there: {version['revoked']}",
                    where=self._address(LATEST),
                    remedy="raise 'version' in config/config.yaml and build other bytes",
                )

    def _pointer_to(
        self, versions: list[dict[str, Any]], revocations: Revocations
    ) -> dict[str, Any]:
        """Make ``latest.json``: the last version that was not revoked is the latest."""
        listed = []
        latest = None
        for version in versions:
            revocation = find_revocation(
                revocations, self._name, version["version"], version["artifact_sha256"]
            )
            listed.append({**version, "revoked": revocation.reason} if revocation else version)
            if "revoked" not in listed[-1]:  # a mark stays, whatever became of the list
                latest = version["folder"]
        return {
            "schema": SCHEMA,
            "model": self.model,
            "variant": self.variant,
            "latest": latest,
            "versions": listed,
        }

    def _read_pointer(self) -> Mapping[str, Any]:
        """Read ``latest.json``; empty where nothing was published."""
        data = self.client.read(f"{self._name}/{LATEST}")
        if data is None:
            return {}
        try:
            pointer = json.loads(data)
            folders = [version["folder"] for version in pointer["versions"]]
            if pointer["schema"] == SCHEMA and all(map(_VERSION_FOLDER.fullmatch, folders)):
                return dict(pointer)
        except (ValueError, TypeError, LookupError):
            pass
        raise PublishError(
            "is not what phiforge writes there",
            where=self._address(LATEST),
            remedy="choose another folder, or repair the file",
        )

    def _published_revocations(self) -> Revocations:
        data = self.client.read(f"{self._name}/{REVOCATIONS}")
        return parse_published(data, self._name, self._address(REVOCATIONS))

    def _write(self, name: str, data: bytes) -> None:
        self.client.write(f"{self._name}/{name}", data)

    def _address(self, name: str) -> str:
        return self.client.address(f"{self._name}/{name}")
