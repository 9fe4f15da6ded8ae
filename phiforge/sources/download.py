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
_LINE_SECONDS = 5.0
_LINE = "{desc}: {percentage:.0f} % of {total_fmt}, {rate_fmt}\n"


def download(commit: HubCommit, file: HubFile, target: Path, label: str) -> None:
    """Make ``target`` hold the bytes of ``file``, continuing what it holds already.

    Args:
        target: named after the file's digest, so that what an earlier process left there can only
            be the beginning of these bytes.
        label: the command and the model, for the progress bar.

    Raises:
        SourceError: no access, too many failures, or the bytes are wrong even when fetched anew.
    """
    retry(file.path, _Transfer(commit, file, target, label).attempt)


class _Transfer:
    """The attempts to bring one file to its size and digest."""

    def __init__(self, commit: HubCommit, file: HubFile, target: Path, label: str) -> None:
        self._commit, self._file, self._target, self._label = commit, file, target, label
        self._most = self._size()
        # Wrong bytes are fetched once more, and what an earlier process left does not count.
        self._mismatches_left = 1 + target.exists()

    def attempt(self) -> None:
        """Append what is missing, and verify the file.

        Raises:
            TransientError: the file is not complete, or its bytes were wrong and are removed.
            SourceError: the bytes are wrong again.
        """
        if self._size() > self._file.size:
            self._target.unlink()
        try:
            if not self._target.exists() or self._size() < self._file.size:
                self._append()
            self._verify()
        except TransientError as error:
            # Only bytes beyond those of earlier attempts count: a server that always ends at the
            # same place must not be asked for ever.
            error.progressed = self._size() - self._most >= _ENOUGH_PROGRESS
            self._most = max(self._most, self._size())
            if error.start_over:
                self._target.unlink(missing_ok=True)
            raise

    def _verify(self) -> None:
        expected = self._file.digest
        found = sha256_file(self._target) if self._file.lfs else git_blob_id(self._target)
        if found == expected:
            return
        if not self._mismatches_left:
            self._target.unlink()
            raise SourceError(
                "the server gives other bytes than the commit has "
                f"({'sha256' if self._file.lfs else 'git blob id'})",
                where=self._file.path,
                expected=expected,
                found=found,
                remedy="try again later, or another endpoint (HF_ENDPOINT)",
            )
        self._mismatches_left -= 1
        raise TransientError(
            f"the bytes are damaged (expected {expected}, found {found})", start_over=True
        )

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
