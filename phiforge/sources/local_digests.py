"""Say whether a local folder's files have changed, without hashing gigabytes before every run.

A checkout, a copy or ``touch`` gives files another time and the same bytes. So their digests are
kept beside the fetched tree, and a file is hashed again only if its size or time is another.
"""

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import ChecksumsError, parse_checksums
from phiforge.artifact.record import RecordError, read_record, write_record
from phiforge.artifact.tree import sha256_file

_KNOWN = ".local.json"
_TICK_NS = 2_000_000_000
"""The coarsest time of change that a file system keeps (FAT)."""


def local_digests(folder: Path, checksums: str, into: Path, *, keep: bool) -> dict[str, Any]:
    """Return the recorded and the present digest of each file; fetch reports what is wrong.

    Args:
        folder: the local folder.
        checksums: name of the file in it that lists its checksums.
        into: ``artifacts/source/<model>``.
        keep: write down what was found, for the next run.

    Returns:
        ``recorded`` and ``found``, file name to hex SHA-256; a file that cannot be read has none,
        and before the first fetch each is taken to be what is recorded: fetch hashes it.
    """
    try:
        listed = parse_checksums((folder / checksums).read_text("utf-8"), folder / checksums)
    except (OSError, UnicodeDecodeError, ChecksumsError):
        return {"recorded": {}, "found": {}}
    listed.pop(checksums, None)
    known = _read(into / _KNOWN)
    seen = states(folder, listed)
    for name, state in seen.items():
        before = known.get(name)
        if not known:
            state["sha256"] = listed[name]
        elif isinstance(before, dict) and "time_ns" in state and {**before, **state} == before:
            state["sha256"] = before["sha256"]
        else:
            with suppress(OSError):
                state["sha256"] = sha256_file(folder / name)
    if keep and known and seen != known:
        remember(into, seen)
    found = {name: state["sha256"] for name, state in seen.items() if "sha256" in state}
    return {"recorded": listed, "found": found}


def states(folder: Path, names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the size (bytes) and the time of change (ns) of those files that are there.

    One that changed a moment ago has no time, which tells nothing yet: file systems that count
    whole seconds give the next change the same.
    """
    now = time.time_ns()
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        with suppress(OSError):
            stat = (folder / name).stat()
            found[name] = {"size": stat.st_size}
            if stat.st_mtime_ns < now - _TICK_NS:
                found[name]["time_ns"] = stat.st_mtime_ns
    return found


def remember(into: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
    """Keep what `states` said of files before they were hashed, each with its ``sha256``."""
    write_record(into / _KNOWN, {"files": files})


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(read_record(path)["files"])
    except (RecordError, LookupError, TypeError, ValueError):
        return {}
