"""JSON records in one canonical form, written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.scratch import replacing, scratch_file
from phiforge.errors import PhiforgeError


class RecordError(PhiforgeError):
    """A record is missing, is not JSON, or is not an object."""


def canonical(value: Any) -> str:
    """JSON text of ``value``: keys sorted, two spaces, UTF-8, a newline at the end.

    >>> canonical({"b": 1, "a": "é"})
    '{\\n  "a": "é",\\n  "b": 1\\n}\\n'
    """
    return json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write ``value`` to ``path`` by rename, so that a reader sees the old file or the new one."""
    write_text(path, canonical(value))


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` by rename; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` by rename; parent folders are made.

    What a kill leaves beside it, the next run removes.
    """
    with replacing(path) as scratch:
        _write(scratch, data)


def write_into(folder: Path, name: str, text: str) -> None:
    """Write UTF-8 ``text`` to ``folder/name`` by rename; what a kill leaves lies beside ``folder``.

    It is no file of the folder, then.
    """
    with scratch_file(folder.with_name(f"{folder.name}.{Path(name).name}")) as scratch:
        _write(scratch, text.encode("utf-8"))
        scratch.replace(folder / name)


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON object at ``path``.

    Raises:
        RecordError: the file is missing, is not JSON, has a key twice, or holds something else
            than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except FileNotFoundError:
        raise RecordError("record is missing", where=path) from None
    except (ValueError, RecursionError) as error:  # RecursionError: nested too deeply
        raise RecordError(
            f"not a JSON record ({error})", where=path, remedy="delete it and run again"
        ) from None
    if not isinstance(value, dict):
        raise RecordError(
            "not a JSON record", where=path, expected="an object", found=type(value).__name__
        )
    return value


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a JSON object; as ``object_pairs_hook``. Another reader may take the other of two.

    Raises:
        ValueError: a key stands twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice")
    return found
