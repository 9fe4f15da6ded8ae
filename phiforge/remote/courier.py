"""Write a kit: one zip for a device without a connection, the same bytes for the same job."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.scratch import replacing
from phiforge.checkout import ROOT
from phiforge.remote.kit import JOB, PAYLOAD, Kit

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that the format knows
_PLAIN, _PROGRAM = 0o644, 0o755

RUN_SH = """\
#!/bin/sh
# ./run.sh [RELEASE_FOLDER]: does the job of this kit on this device. Needs Python 3.11.
exec "${PYTHON:-python3}" "$(dirname "$0")/run.py" "$@"
"""

RUN_PS1 = """\
# ./run.ps1 [RELEASE_FOLDER]: does the job of this kit on this device. Needs Python 3.11.
$python = if ($env:PYTHON) { $env:PYTHON } else { "python" }
& $python (Join-Path $PSScriptRoot "run.py") @args
exit $LASTEXITCODE
"""


def write_kit(kit: Kit, into: Path, *, payload: bool) -> None:
    """Write the zip by rename.

    Stored, not deflated: weights do not shrink, and zlib's versions differ in their bytes.

    Args:
        payload: False: of the payload only SHA256SUMS travels; the release folder is at hand.
    """
    with replacing(into) as scratch, zipfile.ZipFile(scratch, "w", zipfile.ZIP_STORED) as archive:
        for name, source, mode in sorted(_members(kit, payload)):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # Unix, so that run.sh is a program
            info.external_attr = mode << 16
            info.file_size = source.stat().st_size if isinstance(source, Path) else len(source)
            with archive.open(info, "w") as stream:
                for block in _blocks(source):
                    stream.write(block)


def _members(kit: Kit, payload: bool) -> Iterator[tuple[str, Path | bytes, int]]:
    yield JOB, kit.job_json().encode(), _PLAIN
    yield "run.py", ROOT / "phiforge/remote/agent.py", _PLAIN
    yield "run.sh", RUN_SH.encode(), _PROGRAM
    yield "run.ps1", RUN_PS1.replace("\n", "\r\n").encode(), _PLAIN
    for file in kit.files:
        listing = file.name == f"{PAYLOAD}{CHECKSUMS}"
        if payload or listing or not file.name.startswith(PAYLOAD):
            yield file.name, file.source, _PLAIN


def _blocks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as stream:
        while block := stream.read(1 << 20):
            yield block
