"""Versions of a variant in a storage, and the pointer to the one that counts.

    <prefix>/<model>/<variant>/<version>-<release_sha256, 12 digits>/…   complete releases
    <prefix>/<model>/<variant>/latest.json                             the pointer, written last
    <prefix>/<model>/<variant>/revocations.json                        what was taken back, if any
    <prefix>/<model>/<variant>/unfinished.json                         what is being uploaded

A version's folder is named after every byte in it and is never written again once the pointer
knows it; whoever starts from ``latest.json`` sees the old version or the new one, whole.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from phiforge.artifact.record import canonical
from phiforge.publish.outgoing import File, Outgoing
from phiforge.publish.policy import PublishError
from phiforge.publish.revocations import (
    Revocations,
    document,
    joined,
    published,
    refuse_revoked,
    revoking,
)
from phiforge.publish.store import Store
from phiforge.verify.revocations import REVOCATIONS

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

    @property
    def _name(self) -> str:
        return f"{self.model}/{self.variant}"

    def revoke(self, ours: Revocations) -> str | None:
        """Tell of what was taken back and point away from it; None: there is nothing to do.

        The list goes first and the pointer last: a pointer never moves for a reason that nobody
        can read, and the next run moves one that was left.
        """
        known = self._read(LATEST)
        told = self._revocations()
        revocations = joined(told, ours)
        if not known or not revocations:
            return None
        if revocations != told:
            self._record(revocations)
        pointer = self._pointer(known["versions"], revocations)
        if pointer != known:
            self._write(LATEST, pointer)
        if revocations == told and pointer == known:
            return None
        where = self.store.place(self._at(REVOCATIONS))
        versions = ", ".join(dict.fromkeys(one.version for one in revocations))
        return f"published the revocation of {self._name} {versions}: {where}"

    def publish(self, release: Outgoing, ours: Revocations) -> str:
        """Upload what is missing, prove it, and point to it last; what was done, in one line.

        Args:
            ours: what was taken back of this variant; it joins what the storage tells already.

        Raises:
            PublishError: the version is published with other bytes or was taken back, or the
                storage refuses.
        """
        known = self._read(LATEST)
        versions: list[dict[str, Any]] = known.get("versions", [])
        self._refuse_version(release, versions)
        told = self._revocations()
        revocations = joined(told, ours)
        refuse_revoked(
            revocations,
            self._name,
            release.version,
            release.artifact_sha256,
            self.store.place(self._at(REVOCATIONS)),
        )
        if revocations != told:
            self._record(revocations)
        folder = f"{release.version}-{release.release_sha256[:12]}"
        where = self.store.place(self._at(folder))
        if known.get("latest") == folder:
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
        self._write(LATEST, self._pointer([*kept, entry], revocations))
        self._finished(folder)
        return (
            f"published {release.name}: {where}, {uploaded} of {len(release.files)} files uploaded"
        )

    def removals(self, keep: int) -> list[Removal]:
        """What a clean-up that leaves ``keep`` versions would take away."""
        known = self._read(LATEST)
        versions = known.get("versions", [])
        old = [one for one in versions[:-keep] if one["folder"] != known["latest"]]
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
            self._write(LATEST, self._pointer(kept, self._revocations()))
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

    def _refuse_version(self, release: Outgoing, versions: list[dict[str, Any]]) -> None:
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
            if one["version"] == release.version and "revoked" in one:  # the list may be lost
                raise PublishError(
                    f"version {release.version} was revoked there: {one['revoked']}",
                    where=self.store.place(self._at(LATEST)),
                    remedy="raise 'version' in config/config.yaml and build other bytes",
                )

    def _revocations(self) -> Revocations:
        """What the storage says was taken back."""
        place = self._at(REVOCATIONS)
        if self.store.size(place) is None:
            return ()
        return published(self.store.read(place), self._name, self.store.place(place))

    def _record(self, revocations: Revocations) -> None:
        self.store.write(self._at(REVOCATIONS), document(revocations))

    def _pointer(self, versions: list[dict[str, Any]], revocations: Revocations) -> dict[str, Any]:
        """The document at ``latest.json``: the last version that was not taken back counts."""
        told = []
        latest = None
        for one in versions:
            found = revoking(revocations, self._name, one["version"], one["artifact_sha256"])
            told.append({**one, "revoked": found.reason} if found else one)
            if "revoked" not in told[-1]:  # said once, it stays said
                latest = one["folder"]
        return {
            "schema": SCHEMA,
            "model": self.model,
            "variant": self.variant,
            "latest": latest,
            "versions": told,
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
