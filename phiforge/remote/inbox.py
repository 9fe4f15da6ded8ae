"""Read artifacts/inbox/: receipts that a courier brought, in files of any name.

A file is a zip that holds a receipt and its envelope, as a kit makes it, or the receipt itself
(``X.json``) with ``X.dsse.json`` beside it. What a file is about is read from the receipt. People
and other systems put files there: every read is bounded, and one bad file does not stop the rest.
"""

import json
import stat
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from phiforge.errors import printable
from phiforge.jobs import Check
from phiforge.receipts.receipt_files import ENVELOPE, envelope_path
from phiforge.remote import RunnerError
from validators.check import CheckFiles

INBOX = Path("artifacts/inbox")
_LONGEST = 8 << 20  # bytes of a file, and of a zip's member; a receipt has some hundred thousand
_SUFFIXES = (".zip", ".json")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # whose reading is bounded

Key = tuple[str, str, str]


def scan(folder: Path = INBOX) -> tuple[dict[Key, list[str]], list[str]]:
    """Find the inbox's receipts; light enough for parse time, and nothing is believed yet.

    Returns:
        (model, variant, row) to the files about it, in the order of their names; and a note for
        each file that is ignored.
    """
    found: dict[Key, list[str]] = {}
    notes: list[str] = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = path.name.lower()
        if name.startswith(".") or not name.endswith(_SUFFIXES) or name.endswith(ENVELOPE):
            continue  # ``._x.zip`` is what a Mac leaves beside x.zip
        try:
            found.setdefault(_subject(path, read(path)[0]), []).append(str(path))
        except RunnerError as error:
            notes.append(f"ignored: {error}")
        except OSError as error:
            notes.append(printable(f"ignored: {path}: {error.strerror or error}"))
    return found, notes


def companions(path: str) -> list[str]:
    """Return the files that belong to an inbox file, itself first."""
    envelope = envelope_path(Path(path))
    return [path, str(envelope)] if envelope.is_file() else [path]


def read(path: Path) -> tuple[bytes, bytes | None]:
    """Read the receipt and the envelope that an inbox file holds.

    Raises:
        RunnerError: it holds no receipt.
        OSError: it cannot be read.
    """
    data = path.stat()
    if not stat.S_ISREG(data.st_mode):
        raise _no_receipt(path, "a folder" if stat.S_ISDIR(data.st_mode) else "no file")
    if data.st_size > _LONGEST:
        raise _no_receipt(path, f"{data.st_size} bytes")
    if path.suffix.lower() == ".json":
        envelope = envelope_path(path)
        return path.read_bytes(), read(envelope)[0] if envelope.exists() else None
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_members(path, archive)
    except (
        zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise _no_receipt(path, str(error) or type(error).__name__) from None


def _read_members(path: Path, archive: zipfile.ZipFile) -> tuple[bytes, bytes | None]:
    names = [name for name in archive.namelist() if name.endswith(".json") and not _of_a_mac(name)]
    envelopes = [name for name in names if name.endswith(ENVELOPE)]
    receipts = [name for name in names if name not in envelopes]
    if len(receipts) != 1 or len(envelopes) > 1:
        raise _no_receipt(path, f"{len(receipts)} receipts, {len(envelopes)} envelopes")
    receipt, *envelope = (_read_member(path, archive, name) for name in receipts + envelopes)
    return receipt, envelope[0] if envelope else None


def _of_a_mac(name: str) -> bool:
    """Return whether a member is what a Mac adds to a zip."""
    parts = PurePosixPath(name).parts
    return "__MACOSX" in parts or parts[-1].startswith("._")


def _read_member(path: Path, archive: zipfile.ZipFile, name: str) -> bytes:
    member = archive.getinfo(name)
    if member.compress_type not in _METHODS:
        raise _no_receipt(path, f"{name}, packed in a way that no kit uses")
    with archive.open(member) as stream:
        data = stream.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise _no_receipt(path, f"{name} of more than {_LONGEST} bytes")
    return data


def _subject(path: Path, receipt: bytes) -> Key:
    try:
        document = json.loads(receipt)
    except (ValueError, RecursionError):
        raise _no_receipt(path, "not JSON") from None
    fields = document if isinstance(document, dict) else {}
    subject = [fields.get(name) for name in ("model", "variant", "device")]
    if not all(isinstance(name, str) for name in subject):
        raise _no_receipt(path, "it names no model, variant and device")
    model, variant, row = map(str, subject)
    return model, variant, row


def _no_receipt(path: Path, found: str) -> RunnerError:
    return RunnerError(
        "malformed-receipt",
        "not a receipt that a kit gave",
        where=path,
        expected="one receipt and its envelope",
        found=found,
        remedy="copy the kit's receipt.zip again, or take the file out of the inbox",
    )


def take(
    candidates: Sequence[Path], job: Check, files: CheckFiles, key: Path | None
) -> tuple[bool, list[str]]:
    """Write the receipt of the first of ``candidates`` that is about this very check.

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
            f"row '{job.row.name}' names no key, so nobody can tell who signed",
            where=candidates[0],
            remedy="give the row 'key:', the public key of the device",
        )
    expects = expectations(replace(job, row=replace(job.row, runner="courier")), files)
    notes: list[str] = []
    for path in candidates:
        receipt, envelope = read(path)
        try:
            verdict = accept(
                receipt, envelope, key=key, expects=expects, into=files.receipt, source=str(path)
            )
        except RunnerError as error:
            if error.name != "stale-receipt":
                raise
            notes.append(f"{path.name} is ignored: {str(error).split(': ', 1)[1]}")
            continue
        print(f"{job.model} {job.variant} on {job.row.name}: {verdict}, from {path}")
        return True, notes
    return False, notes
