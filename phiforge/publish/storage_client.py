"""Read and write files in a storage through fsspec: a folder, S3, or what else is installed."""

import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import split_protocol
from fsspec.implementations.local import LocalFileSystem

from phiforge.publish.policy import PublishError, Storage
from phiforge.settings.documents import did_you_mean

_WHERE = "config/config.yaml: publish.storage"
_SECRETS = ("key", "token", "password", "secret")

fsspec.register_implementation("s3", "phiforge.publish.s3.S3FileSystem", clobber=True)


class StorageClient:
    """The files below one URL; names are relative to it.

    Raises:
        PublishError: the storage cannot be reached that way, or refuses.
    """

    def __init__(self, storage: Storage) -> None:
        self._url = storage.url.rstrip("/")
        self._files = _file_system(storage)
        self._root = self._files._strip_protocol(self._url)

    def address(self, name: str) -> str:
        """Give the URL of a file, for messages."""
        return f"{self._url}/{name}"

    def read(self, name: str) -> bytes | None:
        """Read a small file; None: it does not exist."""
        with self._errors_at(name), self._opened(name) as stream:
            return None if stream is None else bytes(stream.read())

    def sha256(self, name: str) -> str | None:
        """Hash the bytes that the storage returns (hex SHA-256); None: there is no such file."""
        with self._errors_at(name), self._opened(name) as stream:
            return None if stream is None else hashlib.file_digest(stream, "sha256").hexdigest()

    def upload(self, local: Path, name: str) -> None:
        """Store a file in one step; it replaces one of that name."""
        path = self._path(name)
        with self._errors_at(name):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if isinstance(self._files, LocalFileSystem):
                _copy_and_rename(local, Path(path))
            else:
                self._files.put_file(str(local), path)

    def write(self, name: str, data: bytes) -> None:
        """Store a small file in one step."""
        with tempfile.NamedTemporaryFile(prefix="phiforge-publish-") as stream:
            stream.write(data)
            stream.flush()
            self.upload(Path(stream.name), name)

    def find(self, name: str) -> list[str]:
        """List the files below a folder, by names relative to it."""
        top = f"{self._path(name)}/"
        with self._errors_at(name):
            return sorted(str(path).removeprefix(top) for path in self._files.find(top[:-1]))

    def remove_folder(self, name: str) -> None:
        """Remove the files below a folder; one that does not exist is fine."""
        with self._errors_at(name):
            if self.find(name):
                self._files.rm(self._path(name), recursive=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        try:
            stream = self._files.open(self._path(name), "rb")
        except FileNotFoundError:
            yield None
            return
        with stream:
            yield stream

    @contextmanager
    def _errors_at(self, name: str) -> Iterator[None]:
        """Reduce what a file system raises to one line, without a request's headers."""
        try:
            yield
        except PublishError:
            raise
        except Exception as error:
            line = next(iter(str(error).splitlines()), "")[:300]
            raise PublishError(
                getattr(error, "strerror", None) or f"{type(error).__name__}: {line}",
                where=self.address(name),
                remedy="check that the storage answers, and that you may write there with the"
                " credentials in the environment",
            ) from None


def _file_system(storage: Storage) -> Any:
    """Make the file system of a storage's URL, whose secrets come from the environment only."""
    protocol = split_protocol(storage.url)[0] or "file"
    if urlsplit(storage.url).password:
        raise PublishError(
            "a password does not belong in the configuration",
            where=f"{_WHERE}: {protocol}://",
            remedy="set it in the environment",
        )
    try:
        kind = fsspec.get_filesystem_class(protocol)
    except (ValueError, ImportError) as error:
        raise PublishError(str(error), where=f"{_WHERE}: {storage.url}") from None
    known = inspect.signature(kind.__init__).parameters
    closed = all(one.kind is not one.VAR_KEYWORD for one in known.values())
    for name in storage.options:
        if any(word in name for word in _SECRETS):
            raise PublishError(
                f"'{name}' is a secret and does not belong in the configuration",
                where=_WHERE,
                remedy="set it in the environment (s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
            )
        if closed and name not in known:
            raise PublishError(
                f"'{protocol}' has no option '{name}'",
                where=_WHERE,
                remedy=did_you_mean(name, sorted(known)),
            )
    return kind(**storage.options)


def _copy_and_rename(local: Path, target: Path) -> None:
    """Replace a file so that a kill leaves the old one or the new one."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(local, partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)
