"""artifacts/inbox/: NPU blobs that a courier brought, zips of any name with a RESULT.json inside.

Which IR and options a blob was compiled from is read there; light enough for parse time.
"""

import json
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.npu_blob.subject import RESULT, WEIGHTS, compile_job, ir_digests, subject
from phiforge.artifact.npu_blob import BLOB
from phiforge.remote import RunnerError
from phiforge.settings.plan import Availability

INBOX = Path("artifacts/inbox")
_LONGEST = 1 << 20  # bytes; a result has some kilobytes


def holds_blob(path: Path) -> bool:
    """Whether an inbox file is a compilation's result, and no receipt."""
    try:
        with zipfile.ZipFile(path) as archive:
            return RESULT in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def scan(folder: Path = INBOX) -> dict[str, Mapping[str, Any]]:
    """The results of the inbox, by path, in the order of their names.

    Raises:
        RunnerError: a result cannot be read.
    """
    return {str(path): _result(path) for path in sorted(folder.glob("*.zip")) if holds_blob(path)}


def find(
    results: Mapping[str, Mapping[str, Any]], options: Mapping[str, Any], base: Path, remedy: str
) -> tuple[str | None, Availability]:
    """The first result of a variant's compilation from the IR that stands now, and whether it is.

    Args:
        results: of `scan`.
        options: of the variant.
        base: payload with the IR; where there is none yet, nothing can be of it.
        remedy: what to do without a result.
    """
    reason = "its blob is compiled elsewhere, and none came back yet"
    if not (base / "SHA256SUMS").is_file():
        return None, Availability(False, reason, remedy)
    expects = subject(compile_job(options, ir_digests(base)[WEIGHTS], "NPU"), base)
    stale = []
    for path, result in results.items():
        differing = [name for name in expects if result.get(name) != expects[name]]
        if not differing:
            return path, Availability(True)
        if result.get("platform") == expects["platform"]:
            what = "another IR" if "ir" in differing else f"another {differing[0]}"
            stale.append(f"{Path(path).name} is ignored: it was compiled from {what}")
    return None, Availability(False, "; ".join([reason, *stale]), remedy)


def take(path: Path, into: Path) -> dict[str, Any]:
    """Unpack the blob of a result into ``into``; return what the result says.

    Raises:
        RunnerError: ``malformed-result``.
    """
    result = _result(path)
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(BLOB) as packed,
            (into / BLOB).open("wb") as blob,
        ):
            shutil.copyfileobj(packed, blob, 1 << 20)
    except (KeyError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _malformed(path, str(error)) from None
    return result


def _result(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(RESULT).file_size > _LONGEST:
                raise _malformed(path, f"{RESULT} is too long")
            result: dict[str, Any] = json.loads(archive.read(RESULT))
    except (KeyError, ValueError, zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise _malformed(path, str(error)) from None
    parts = [result.get(name) for name in ("blob", "compiled")] if isinstance(result, dict) else []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise _malformed(path, f"{RESULT} tells of no blob")
    return result


def _malformed(path: Path, found: str) -> RunnerError:
    return RunnerError(
        "malformed-result",
        f"not a blob that a kit gave ({found})",
        where=path,
        remedy="copy the kit's result again, or take the file out of the inbox",
    )
