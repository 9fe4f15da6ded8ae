"""artifacts/inbox/: receipts that a courier brought, in files of any name.

A file is a zip that holds a receipt and its envelope, as a kit makes it, or the receipt itself
(``X.json``) with ``X.dsse.json`` beside it. What a file is about is read from the receipt.
"""

import json
import zipfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from phiforge.errors import PhiforgeError
from phiforge.receipts.receipt_files import ENVELOPE, envelope_path
from phiforge.remote import RunnerError

INBOX = Path("artifacts/inbox")
_LONGEST = 1 << 26  # bytes; a receipt has some hundred kilobytes

Key = tuple[str, str, str]


def scan(folder: Path = INBOX) -> dict[Key, list[str]]:
    """(model, variant, row) to the inbox's files about it, in the order of their names.

    Light enough for parse time; nothing is believed yet.

    Raises:
        RunnerError: a file is no receipt.
    """
    found: dict[Key, list[str]] = {}
    files = [*folder.glob("*.zip"), *folder.glob("*.json")] if folder.is_dir() else []
    for path in sorted(files):
        if not path.name.endswith(ENVELOPE):
            receipt, _ = read(path)
            told = _json(path, receipt)
            found.setdefault((told["model"], told["variant"], told["device"]), []).append(str(path))
    return found


def companions(path: str) -> list[str]:
    """The files that belong to an inbox file, itself first."""
    envelope = envelope_path(Path(path))
    return [path, str(envelope)] if path.endswith(".json") and envelope.is_file() else [path]


def read(path: Path) -> tuple[bytes, bytes | None]:
    """The receipt and the envelope that an inbox file holds.

    Raises:
        RunnerError: it holds no receipt.
    """
    if path.suffix == ".json":
        beside = envelope_path(path)
        return path.read_bytes(), beside.read_bytes() if beside.is_file() else None
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if one.file_size <= _LONGEST]
            receipts = [
                one
                for one in members
                if one.filename.endswith(".json") and not one.filename.endswith(ENVELOPE)
            ]
            envelopes = [one for one in members if one.filename.endswith(ENVELOPE)]
            if len(receipts) != 1 or len(envelopes) > 1:
                raise _no_receipt(path, f"{len(receipts)} receipts, {len(envelopes)} envelopes")
            envelope = archive.read(envelopes[0]) if envelopes else None
            return archive.read(receipts[0]), envelope
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _no_receipt(path, str(error)) from None


def _json(path: Path, receipt: bytes) -> dict[str, str]:
    try:
        told = json.loads(receipt)
    except ValueError:
        raise _no_receipt(path, "not JSON") from None
    if not isinstance(told, dict) or not all(
        isinstance(told.get(noun), str) for noun in ("model", "variant", "device")
    ):
        raise _no_receipt(path, "it names no model, variant and device")
    return told


def _no_receipt(path: Path, found: str) -> RunnerError:
    return RunnerError(
        "malformed-receipt",
        "not a receipt that a kit gave",
        where=path,
        expected="one receipt and its envelope",
        found=found,
        remedy="copy the kit's receipt.zip again, or take the file out of the inbox",
    )


def take(files: Sequence[Path], options: Namespace, key: Path | None) -> tuple[bool, list[str]]:
    """Write the receipt of the first of ``files`` that is about this very check.

    Returns:
        Whether one was, and a note for each that is stale.

    Raises:
        RunnerError: the row names no key, or a file is refused: unsigned, edited, unknown signer.
    """
    from phiforge.remote.kit import expectations  # not at parse time
    from phiforge.remote.receipts import accept

    if key is None:
        raise RunnerError(
            "no-key",
            f"row '{options.row}' names no key, so nobody can tell who signed",
            where=files[0],
            remedy="give the row 'key:', the public key of the device",
        )
    expects = expectations(options, "courier")
    notes: list[str] = []
    taken = False
    for path in files:
        receipt, envelope = read(path)
        try:
            verdict = accept(
                receipt, envelope, key=key, expects=expects, into=options.receipt, came=str(path)
            )
        except PhiforgeError as error:
            if not isinstance(error, RunnerError) or error.name != "stale-receipt":
                raise
            notes.append(f"{path.name} is ignored: {str(error).split(': ', 1)[1]}")
            continue
        if not taken:
            print(f"{options.model} {options.variant} on {options.row}: {verdict}, from {path}")
        taken = True
    return taken, notes
