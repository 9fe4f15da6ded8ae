"""Name and list receipt files: ``<row>.json``, its envelope ``<row>.dsse.json`` beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.record import write_record

ENVELOPE = ".dsse.json"


def envelope_path(receipt: Path) -> Path:
    """Return where the envelope of a receipt file lies.

    >>> envelope_path(Path("checks/npu.json")).as_posix()
    'checks/npu.dsse.json'
    """
    return receipt.with_name(receipt.name.removesuffix(".json") + ENVELOPE)


def receipts_in(folder: Path) -> list[Path]:
    """Return the receipt files of a folder by name, without envelopes; none: no folder."""
    return [path for path in sorted(folder.glob("*.json")) if not path.name.endswith(ENVELOPE)]


def write_unsigned(path: Path, receipt: Mapping[str, Any]) -> None:
    """Write the receipt of a blocked row; an envelope of an earlier one is removed.

    It holds no more than the configuration says, so it is checked by the gate only: a row that
    cannot run must not wait for what signs.
    """
    envelope_path(path).unlink(missing_ok=True)
    write_record(path, {**receipt, "signer": None})
