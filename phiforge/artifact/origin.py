"""Note of a record that it came from a shared cache: ``<stem>.cached``, beside the record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file

PREDICTIONS_TAKEN = "predictions-taken"  # a receipt's note: the cache had what the weights predict


def origin_path(record: Path) -> Path:
    """Return where the note on a record lies.

    >>> origin_path(Path("checks/npu.json")).as_posix()
    'checks/npu.cached'
    """
    return record.with_suffix(".cached")


def read_origin(record: Path) -> Mapping[str, Any] | None:
    """Return the note on a record as it is now; None: it was made here."""
    note = origin_path(record)
    if not (note.is_file() and record.is_file()):
        return None
    origin = read_record(note)
    return origin if origin["sha256"] == sha256_file(record) else None
