"""Where receipts lie: ``<row>.json``, its envelope ``<row>.dsse.json`` beside it."""

from pathlib import Path

ENVELOPE = ".dsse.json"


def envelope_path(receipt: Path) -> Path:
    """Where the envelope of a receipt file lies.

    >>> envelope_path(Path("checks/npu.json")).as_posix()
    'checks/npu.dsse.json'
    """
    return receipt.with_name(receipt.name.removesuffix(".json") + ENVELOPE)


def receipts_in(folder: Path) -> list[Path]:
    """The receipt files of a folder by name, without their envelopes; none if it is not there."""
    return [path for path in sorted(folder.glob("*.json")) if not path.name.endswith(ENVELOPE)]
