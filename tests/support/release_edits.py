"""What may be changed in a release that was received: each edit takes the release's folder."""

import base64
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

Edit = Callable[[Path], None]
GIGABYTES = 20 * 1024**3


def edit(path: Path, change: Callable[[Any], None]) -> None:
    """Change a JSON document in place."""
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def write(name: str, data: bytes = b"") -> Edit:
    def change(release: Path) -> None:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(data)

    return change


def remove(name: str) -> Edit:
    return lambda release: (release / name).unlink()


def sparse(name: str) -> Edit:
    def change(release: Path) -> None:
        (release / name).touch()
        os.truncate(release / name, GIGABYTES)

    return change


def updated(name: str, *path: str | int, **changes: Any) -> Edit:
    """Change keys of the object at ``path`` in a JSON document."""

    def change(document: Any) -> None:
        for step in path:
            document = document[step]
        document.update(changes)

    return lambda release: edit(release / name, change)


def replaced(name: str, old: str, new: str) -> Edit:
    def change(release: Path) -> None:
        text = (release / name).read_text()
        assert old in text
        (release / name).write_text(text.replace(old, new, 1))

    return change


def in_payload(name: str, old: bytes, new: bytes) -> Edit:
    """Edit the statement in an envelope, whose signature stays."""

    def change(envelope: Any) -> None:
        payload = base64.b64decode(envelope["payload"])
        assert old in payload
        envelope["payload"] = base64.b64encode(payload.replace(old, new)).decode()

    return lambda release: edit(release / name, change)


def listed(name: str) -> Edit:
    def change(release: Path) -> None:
        with (release / "SHA256SUMS").open("a") as stream:
            stream.write(f"{'0' * 64}  {name}\n")

    return change


def flipped(name: str) -> Edit:
    """Change one bit in the middle of a file."""

    def change(release: Path) -> None:
        data = bytearray((release / name).read_bytes())
        data[len(data) // 2] ^= 1
        (release / name).write_bytes(data)

    return change


def link(name: str, target: str) -> Edit:
    def change(release: Path) -> None:
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).unlink(missing_ok=True)
        (release / name).symlink_to(target)

    return change


def pipe(name: str) -> Edit:
    def change(release: Path) -> None:
        (release / name).unlink(missing_ok=True)
        os.mkfifo(release / name)

    return change


def fit_the_lists(release: Path) -> None:
    """What a careful attacker does: make manifest and checksums fit again."""

    def describe(manifest: Any) -> None:
        for entry in manifest["files"]:
            entry["size"] = (release / entry["path"]).stat().st_size

    edit(release / "MANIFEST.json", describe)
    names = [line[66:] for line in (release / "SHA256SUMS").read_text().splitlines()]
    sums = {
        name: hashlib.sha256((release / name).read_bytes()).hexdigest()
        for name in names
        if (release / name).stat().st_size < GIGABYTES
    }
    lines = [f"{sums.get(name, '0' * 64)}  {name}\n" for name in names]
    (release / "SHA256SUMS").write_text("".join(lines))


def both(*edits: Edit) -> Edit:
    def change(release: Path) -> None:
        for one in edits:
            one(release)

    return change
