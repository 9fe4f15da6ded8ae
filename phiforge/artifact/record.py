"""JSON records in one canonical form, written whole or not at all."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    """Write UTF-8 ``text`` to ``path`` by rename; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_into(folder: Path, name: str, text: str) -> None:
    """Write UTF-8 ``text`` to ``folder/name`` by rename; the scratch file lies beside ``folder``.

    What a kill leaves is no file of the folder, and the next run writes over it.
    """
    scratch = folder.with_name(f".{folder.name}.{Path(name).name}.partial")
    write_text(scratch, text)
    scratch.replace(folder / name)


def read_record(path: Path) -> dict[str, Any]:
    """Read the JSON object at ``path``.

    Raises:
        RecordError: the file is missing, is not JSON, or holds something else than an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
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
