"""Keep files in a storage under their SHA-256, and believe none that comes back with another."""

from pathlib import Path

from phiforge.artifact.tree import sha256_file
from phiforge.cache import CacheRefusal
from phiforge.publish.storage_client import StorageClient


class Files:
    """The files of a storage, as ``files/<sha256, 2 digits>/<sha256>``.

    Attributes:
        moved: bytes of files that went to the storage or came from it.
    """

    def __init__(self, client: StorageClient) -> None:
        self._client = client
        self.moved = 0

    def put(self, path: Path, digest: str, *, again: bool = False) -> None:
        """Store a file unless it is there.

        Args:
            again: what is there is written again, for it was not right.

        Raises:
            PublishError: the storage does not answer, or refuses.
        """
        size = path.stat().st_size
        if again or self._client.size(_place(digest)) != size:
            self._client.upload(path, _place(digest))
            self.moved += size

    def get(self, name: str, digest: str, into: Path, size: int | None = None) -> None:
        """Fetch a file, and hold its bytes against the digest.

        Args:
            name: for messages.
            size: in bytes, where it is known.

        Raises:
            CacheRefusal: ``missing-file``, ``truncated-file`` or ``changed-file``.
            PublishError: the storage does not answer, or refuses.
        """
        place = _place(digest)
        where, found = self._client.address(place), self._client.size(place)
        if found is None:
            raise CacheRefusal("missing-file", f"{name} is not there", where)
        if size is not None and found != size:
            raise CacheRefusal("truncated-file", f"{name} has {found} bytes, not {size}", where)
        into.parent.mkdir(parents=True, exist_ok=True)
        self._client.download(place, into)
        self.moved += found
        if sha256_file(into) != digest:
            raise CacheRefusal("changed-file", f"{name} has not the bytes of its digest", where)


def _place(digest: str) -> str:
    return f"files/{digest[:2]}/{digest}"
