"""One file of a commit to disk: resumed by range, across processes too, and verified."""

import os
import sys
from pathlib import Path

from phiforge.artifact.tree import git_blob_id, sha256_file
from phiforge.sources.client import HubClient, HubFile
from phiforge.sources.progress import Meter
from phiforge.sources.request import SourceError
from phiforge.sources.retry import Patience, TransientError

_ENOUGH_PROGRESS = 1 << 20
_VERIFIED_DOWNLOADS = 2  # and one more where an earlier process left bytes


def download(client: HubClient, file: HubFile, target: Path, meter: Meter) -> None:
    """Make ``target`` hold the bytes of ``file``; what it holds already is continued.

    ``target`` must be named after the file's digest, so that what an earlier process left there
    can only be the beginning of these bytes.

    Raises:
        SourceError: no access, out of patience, or the bytes are wrong even when fetched anew.
    """
    for left in reversed(range(_VERIFIED_DOWNLOADS + target.exists())):
        _complete(client, file, target, meter)
        found = sha256_file(target) if file.lfs_sha256 else git_blob_id(target)
        if found == file.digest:
            return
        target.unlink()
        if left:
            print(
                f"{file.path}: the bytes are damaged (expected {file.digest}, found {found}); "
                "fetching the file once more",
                file=sys.stderr,
                flush=True,
            )
    raise SourceError(
        f"the server gives other bytes than the commit has ({_kind(file)})",
        where=file.path,
        expected=file.digest,
        found=found,
        remedy="try again later, or another endpoint (HF_ENDPOINT)",
    )


def _kind(file: HubFile) -> str:
    return "sha256" if file.lfs_sha256 else "git blob id"


def _complete(client: HubClient, file: HubFile, target: Path, meter: Meter) -> None:
    """Append until ``target`` has the file's size."""
    patience = Patience(file.path)
    most = _size(target)
    while True:
        if _size(target) > file.size:
            target.unlink()
        meter.at(file.path, _size(target))
        if target.exists() and _size(target) == file.size:
            return
        try:
            _append(client, file, target, meter)
        except TransientError as trouble:
            have = _size(target)
            # Only bytes that were never here before count: a server that always ends at the same
            # place must not keep us for ever.
            if have - most >= _ENOUGH_PROGRESS:
                patience.progressed()
            most = max(most, have)
            if trouble.start_over:
                target.unlink(missing_ok=True)
            patience.wait(trouble)


def _append(client: HubClient, file: HubFile, target: Path, meter: Meter) -> None:
    with (
        client.open(file.path, _size(target)) as (begins, blocks),
        target.open("r+b" if begins else "wb") as stream,
    ):
        stream.seek(begins)
        have = begins
        for block in blocks:
            stream.write(block)
            stream.flush()  # what arrived before a kill is what the next process continues
            have += len(block)
            meter.at(file.path, have)
            if have > file.size:
                raise TransientError(
                    f"the server sends more than {file.size} bytes", start_over=True
                )
        os.fsync(stream.fileno())
    if have < file.size:
        raise TransientError(f"the answer ended after {have} of {file.size} bytes")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
