"""Read and write files in a storage through fsspec: a folder, S3, or what else is installed."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from phiforge.artifact.scratch import replacing
from phiforge.artifact.tree import sha256_file
from phiforge.publish import PublishError
from phiforge.settings.config import Storage
from phiforge.trust.document import MAX_DOCUMENT

_SECRETS = ("key", "token", "password", "secret")

fsspec.register_implementation("s3", "phiforge.publish.s3.S3FileSystem", clobber=True)


class StorageClient:
    """The files below one URL; names are relative to it.

    Args:
        named: the key of the configuration that names the storage.

    Raises:
        PublishError: the storage cannot be reached that way, or refuses.
    """

    def __init__(self, storage: Storage, named: str = "publish.storage") -> None:
        _refuse_secrets(storage, named)
        self._url, self._named = storage.url.rstrip("/"), named
        with self._errors_at(self._url):
            self._files, self._root = url_to_fs(self._url, **storage.options)
        self._local = isinstance(self._files, LocalFileSystem)

    def address(self, name: str) -> str:
        """Give the URL of a file, for messages."""
        return f"{self._url}/{name}"

    def read(self, name: str) -> bytes | None:
        """Read a small file; None: it does not exist."""
        with self._downloaded(name) as local:
            if local is None:
                return None
            if not local.is_file() or local.stat().st_size > MAX_DOCUMENT:
                raise PublishError(
                    "is no small file",
                    where=self.address(name),
                    expected=f"a file of at most {MAX_DOCUMENT} bytes",
                    remedy="find out who wrote it; restore what phiforge had written",
                )
            return local.read_bytes()

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes; None: it does not exist."""
        with self._errors_at(self.address(name)):
            try:
                return int(self._files.info(f"{self._root}/{name}")["size"])
            except FileNotFoundError:
                return None

    def download(self, name: str, into: Path) -> None:
        """Copy a file from the storage."""
        with self._errors_at(self.address(name)):
            self._files.get_file(f"{self._root}/{name}", str(into))

    def sha256(self, name: str) -> str | None:
        """Hash the bytes that the storage returns (hex SHA-256); None: there is no such file."""
        with self._downloaded(name) as local:
            return None if local is None else sha256_file(local)

    def upload(self, local: Path, name: str) -> None:
        """Store a file in one step; it replaces one of that name."""
        path = f"{self._root}/{name}"
        with self._errors_at(self.address(name)):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self._local:
                _place(Path(path), lambda partial: shutil.copyfile(local, partial))
            else:
                self._files.put_file(str(local), path)

    def write(self, name: str, data: bytes) -> None:
        """Store a small file in one step."""
        path = f"{self._root}/{name}"
        with self._errors_at(self.address(name)):
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            if self._local:
                _place(Path(path), lambda partial: partial.write_bytes(data))
            else:
                self._files.pipe_file(path, data)

    def find(self, folder: str) -> list[str]:
        """List the files below a folder, and the folders in it, by names relative to it."""
        top = f"{self._root}/{folder}"
        with self._errors_at(self.address(folder)):
            found = [str(path) for path in self._files.find(top)]
            if self._local and Path(top).is_dir():  # a kill may leave a folder without a file
                found += [str(path) for path in Path(top).iterdir() if path.is_dir()]
        return sorted(path.removeprefix(f"{top}/") for path in found)

    def remove_folder(self, folder: str) -> None:
        """Remove the files below a folder."""
        with self._errors_at(self.address(folder)):
            self._files.rm(f"{self._root}/{folder}", recursive=True)

    @contextmanager
    def _downloaded(self, name: str) -> Iterator[Path | None]:
        path = f"{self._root}/{name}"
        with self._errors_at(self.address(name)), ExitStack() as stack:
            if self._local:
                local = Path(path)
            else:
                local = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "downloaded"
                with suppress(FileNotFoundError):
                    self._files.get_file(path, str(local))
            yield local if local.exists() else None

    @contextmanager
    def _errors_at(self, where: str) -> Iterator[None]:
        """Reduce what a file system raises to one line, without a request's headers."""
        try:
            yield
        except PublishError:
            raise
        except Exception as error:
            line = next(iter(str(error).splitlines()), "")[:300]
            raise PublishError(
                getattr(error, "strerror", None) or f"{type(error).__name__}: {line}",
                where=where,
                remedy=f"correct '{self._named}', or check that the storage answers and that the"
                " credentials in the environment may write there",
            ) from None


def _refuse_secrets(storage: Storage, named_by: str) -> None:
    named = [name for name in storage.options if any(word in name for word in _SECRETS)]
    if urlsplit(storage.url).password or named:
        raise PublishError(
            f"{named[0] if named else 'the password in a URL'} is a secret and does not belong in"
            " the configuration",
            where=f"config/config.yaml: {named_by}",
            remedy="set it in the environment (s3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)",
        )


def _place(target: Path, write: Callable[[Path], object]) -> None:
    """Replace a file so that a kill leaves the old one or the new one."""
    with replacing(target) as scratch:
        write(scratch)
        with scratch.open("rb") as stream:
            os.fsync(stream.fileno())
