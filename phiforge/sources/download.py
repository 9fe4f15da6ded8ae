"""Download one file of a commit: resumed by range, across processes too, and verified."""

import os
import sys
from pathlib import Path

from phiforge.artifact.tree import git_blob_id, sha256_file
from phiforge.sources.client import HubCommit, HubFile
from phiforge.sources.retry import TransientError, retry
from phiforge.sources.source import SourceError

# isort: split
from huggingface_hub.utils import tqdm  # after the client, which prepares its environment

_ENOUGH_PROGRESS = 1 << 20
_VERIFIED_DOWNLOADS = 2  # and one more where an earlier process left bytes
_LINE_SECONDS = 5.0
_LINE = "{desc}: {percentage:.0f} % of {total_fmt}, {rate_fmt}\n"


def download(commit: HubCommit, file: HubFile, target: Path, label: str) -> None:
    """Make ``target`` hold the bytes of ``file``, continuing what it holds already.

    Args:
        target: named after the file's digest, so that what an earlier process left there can only
            be the beginning of these bytes.
        label: what is going on, for the progress bar.

    Raises:
        SourceError: no access, too many failures, or the bytes are wrong even when fetched anew.
    """
    found = ""
    for left in reversed(range(_VERIFIED_DOWNLOADS + target.exists())):
        retry(file.path, _Transfer(commit, file, target, label).attempt)
        found = sha256_file(target) if file.lfs else git_blob_id(target)
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
        f"the server gives other bytes than the commit has "
        f"({'sha256' if file.lfs else 'git blob id'})",
        where=file.path,
        expected=file.digest,
        found=found,
        remedy="try again later, or another endpoint (HF_ENDPOINT)",
    )


class _Transfer:
    """The attempts to bring one file to its full size."""

    def __init__(self, commit: HubCommit, file: HubFile, target: Path, label: str) -> None:
        self._commit, self._file, self._target, self._label = commit, file, target, label
        self._most = self._size()

    def attempt(self) -> None:
        """Append what is missing.

        Raises:
            TransientError: the file is not complete yet.
        """
        if self._size() > self._file.size:
            self._target.unlink()
        if self._target.exists() and self._size() == self._file.size:
            return
        try:
            self._append()
        except TransientError as error:
            # Only bytes that were never here before count: a server that always ends at the same
            # place must not keep us for ever.
            error.progressed = self._size() - self._most >= _ENOUGH_PROGRESS
            self._most = max(self._most, self._size())
            if error.start_over:
                self._target.unlink(missing_ok=True)
            raise

    def _append(self) -> None:
        with (
            self._commit.open(self._file.path, self._size()) as (begin, blocks),
            self._target.open("r+b" if begin else "wb") as stream,
            self._progress(begin) as bar,
        ):
            stream.seek(begin)
            for block in blocks:
                stream.write(block)
                stream.flush()  # what arrived before a kill is what the next process continues
                bar.update(len(block))
                if stream.tell() > self._file.size:
                    raise TransientError(
                        f"the server sends more than {self._file.size} bytes", start_over=True
                    )
            os.fsync(stream.fileno())
        if self._size() < self._file.size:
            raise TransientError(
                f"the answer ended after {self._size()} of {self._file.size} bytes"
            )

    def _progress(self, begin: int) -> tqdm:
        """Open a bar in a terminal; in a log, a line every few seconds."""
        terminal = sys.stderr.isatty()
        return tqdm(
            desc=f"{self._label}: {self._file.path}",
            total=self._file.size,
            initial=begin,
            unit="B",
            unit_scale=True,
            mininterval=0.1 if terminal else _LINE_SECONDS,
            delay=0 if terminal else _LINE_SECONDS,
            bar_format=None if terminal else _LINE,
        )

    def _size(self) -> int:
        return self._target.stat().st_size if self._target.exists() else 0
