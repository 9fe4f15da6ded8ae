"""Versions of a variant in a storage, and the pointer to the one that counts.

    <prefix>/<model>/<variant>/<version>-<release_sha256, 12 digits>/…   complete releases
    <prefix>/<model>/<variant>/latest.json                             the pointer, written last
    <prefix>/<model>/<variant>/unfinished.json                         what is being uploaded

A version's folder is named after every byte in it and is never written again once the pointer
knows it; whoever starts from ``latest.json`` sees the old version or the new one, whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from publishing.outgoing import File, Outgoing
from publishing.policy import PublishError
from publishing.store import Store
from records.record import canonical

LATEST = "latest.json"
UNFINISHED = "unfinished.json"
SCHEMA = "phiforge/published/1"


@dataclass(frozen=True)
class Removal:
    """What a clean-up takes away: which version, why, and its files in the storage."""

    what: str
    why: str
    names: tuple[str, ...]
    size: int = 0


@dataclass(frozen=True)
class Shelf:
    """One variant's place in a storage."""

    store: Store
    model: str
    variant: str

    def publish(self, release: Outgoing) -> str:
        """Upload what is missing, prove it, and point to it last; what was done, in one line.

        Raises:
            PublishError: the version is published with other bytes, or the storage refuses.
        """
        known = self._read(LATEST)
        versions: list[dict[str, Any]] = known.get("versions", [])
        self._refuse_other_bytes(release, versions)
        folder = f"{release.version}-{release.release_sha256[:12]}"
        where = self.store.place(self._at(folder))
        if versions and versions[-1]["folder"] == folder:
            self._finished(folder)
            return f"{release.name} is published already: {where}"
        unfinished = self._read(UNFINISHED).get("folders", {})
        unfinished[folder] = sorted(release.files)
        self._write(UNFINISHED, {"folders": unfinished})
        uploaded = sum(
            self._upload(file, f"{folder}/{name}") for name, file in sorted(release.files.items())
        )
        entry = {
            "folder": folder,
            "version": release.version,
            "channel": release.channel,
            "artifact_sha256": release.artifact_sha256,
            "release_sha256": release.release_sha256,
            "files": {
                name: {"size": file.size, "sha256": file.sha256}
                for name, file in sorted(release.files.items())
            },
        }
        kept = [one for one in versions if one["folder"] != folder]
        self._write(LATEST, self._pointer([*kept, entry]))
        self._finished(folder)
        return (
            f"published {release.name}: {where}, {uploaded} of {len(release.files)} files uploaded"
        )

    def removals(self, keep: int) -> list[Removal]:
        """What a clean-up that leaves ``keep`` versions would take away."""
        versions = self._read(LATEST).get("versions", [])
        old = versions[:-keep]
        found = [
            Removal(
                one["folder"],
                f"{keep} newer are kept",
                tuple(f"{one['folder']}/{name}" for name in one["files"]),
                sum(file["size"] for file in one["files"].values()),
            )
            for one in old
        ]
        published = {one["folder"] for one in versions}
        for folder, names in self._read(UNFINISHED).get("folders", {}).items():
            if folder not in published:
                files = tuple(f"{folder}/{name}" for name in names)
                found.append(Removal(folder, "its upload did not end", files))
        return found

    def remove(self, removals: list[Removal]) -> None:
        """Take these versions away: first from the pointer, then their files."""
        gone = {removal.what for removal in removals}
        versions = self._read(LATEST).get("versions", [])
        unfinished = self._read(UNFINISHED).get("folders", {})
        for one in versions:
            if one["folder"] in gone:
                unfinished[one["folder"]] = sorted(one["files"])
        if unfinished:
            self._write(UNFINISHED, {"folders": unfinished})
        kept = [one for one in versions if one["folder"] not in gone]
        if kept != versions:
            self._write(LATEST, self._pointer(kept))
        for removal in removals:
            for name in removal.names:
                self.store.remove(self._at(name))
            self._finished(removal.what)

    def _upload(self, file: File, name: str) -> int:
        """Bring one file there, unless it is; 1 if bytes travelled. It is read back and hashed."""
        place = self._at(name)
        if self.store.size(place) == file.size and self.store.sha256(place) == file.sha256:
            return 0
        self.store.put(file.path, place)
        found = self.store.sha256(place)
        if found != file.sha256:
            raise PublishError(
                "the storage gives back other bytes than it was given",
                where=self.store.place(place),
                expected=file.sha256,
                found=found,
                remedy="run again; a file that is not as it should be is uploaded again",
            )
        return 1

    def _finished(self, folder: str) -> None:
        unfinished = self._read(UNFINISHED).get("folders", {})
        if unfinished.pop(folder, None) is None:
            return
        if unfinished:
            self._write(UNFINISHED, {"folders": unfinished})
        else:
            self.store.remove(self._at(UNFINISHED))

    def _refuse_other_bytes(self, release: Outgoing, versions: list[dict[str, Any]]) -> None:
        for one in versions:
            same = one["artifact_sha256"] == release.artifact_sha256
            if one["version"] == release.version and not same:
                raise PublishError(
                    f"version {release.version} is published with other bytes",
                    where=self.store.place(self._at(LATEST)),
                    expected=one["artifact_sha256"],
                    found=release.artifact_sha256,
                    remedy="raise 'version' in config/config.yaml and build again",
                )

    def _pointer(self, versions: list[dict[str, Any]]) -> dict[str, Any]:
        """The document at ``latest.json``; the last of ``versions`` is the one that counts."""
        latest = versions[-1]
        return {
            "schema": SCHEMA,
            "model": self.model,
            "variant": self.variant,
            "latest": latest["folder"],
            "versions": versions,
        }

    def _at(self, name: str) -> str:
        return f"{self.model}/{self.variant}/{name}"

    def _read(self, name: str) -> dict[str, Any]:
        """A document of the shelf; empty where there is none."""
        place = self._at(name)
        if self.store.size(place) is None:
            return {}
        try:
            found = json.loads(self.store.read(place))
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise PublishError(
                "is not what phiforge writes there",
                where=self.store.place(place),
                remedy="choose another prefix, or repair the file",
            )
        return found

    def _write(self, name: str, document: Mapping[str, Any]) -> None:
        self.store.write(self._at(name), canonical(document).encode())
