"""Files in a storage that one of Snakemake's storage plugins reaches.

The plugins are used directly, not through ``storage()`` in rules: Snakemake deletes a job's old
outputs before the job starts, in the storage too, so that the pointer to the published version
would be gone for as long as its successor takes, and for good if that fails.
"""

import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from snakemake_interface_common.exceptions import InvalidPluginException, WorkflowError
from snakemake_interface_storage_plugins.registry import StoragePluginRegistry
from snakemake_interface_storage_plugins.registry.plugin import Plugin

from phiforge.artifact.tree import sha256_file
from phiforge.publish.policy import PublishError, Storage
from phiforge.settings.documents import did_you_mean

_Result = TypeVar("_Result")


class Store:
    """A folder in a storage; names are relative to it. Use it as a context manager.

    Raises:
        PublishError: wherever the storage, or its plugin, refuses.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._scratch = tempfile.TemporaryDirectory(prefix="phiforge-publish-")
        plugin = _plugin(storage.provider)
        with _explained(storage.prefix):
            self._provider = plugin.storage_provider(
                local_prefix=Path(self._scratch.name) / "storage",
                logger=logging.getLogger(__name__),
                settings=_settings(plugin, storage),
            )
        valid = self._provider.is_valid_query(storage.prefix)
        if not valid:
            raise PublishError(
                f"'{storage.provider}' does not take this prefix: {valid.reason}",
                where="config/config.yaml: publish.storage",
                found=storage.prefix,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._scratch.cleanup()

    def place(self, name: str) -> str:
        """The whole address of a file, for messages."""
        return f"{self._storage.prefix.rstrip('/')}/{name}"

    def size(self, name: str) -> int | None:
        """Size in bytes; None: it is not there."""
        found = self._object(name)
        return self._ask(name, lambda: int(found.size()) if found.exists() else None)

    def sha256(self, name: str) -> str:
        """Hex SHA-256 of the bytes that the storage gives back."""
        with self._retrieved(name) as local:
            return sha256_file(local)

    def read(self, name: str) -> bytes:
        """The bytes of a small file."""
        with self._retrieved(name) as local:
            return local.read_bytes()

    def put(self, local: Path, name: str) -> None:
        """Store a file; one of that name is replaced."""
        if self._storage.provider == "fs":
            self._ask(name, lambda: _replace(local, Path(self.place(name))))
            return
        target = self._object(name)
        target.set_local_path(local)
        self._ask(name, target.store_object)

    def write(self, name: str, data: bytes) -> None:
        """Store a small file."""
        local = Path(self._scratch.name) / "outgoing"
        local.write_bytes(data)
        self.put(local, name)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is fine."""
        found = self._object(name)
        self._ask(name, lambda: found.remove() if found.exists() else None)
        if self._storage.provider == "fs":
            _remove_empty(Path(self.place(name)).parent, Path(self._storage.prefix))

    def _object(self, name: str) -> Any:
        return self._provider.object(self.place(name))

    @contextmanager
    def _retrieved(self, name: str) -> Iterator[Path]:
        local = Path(self._scratch.name) / "retrieved"
        if self._storage.provider == "fs":
            yield Path(self.place(name))
            return
        found = self._object(name)
        found.set_local_path(local)
        try:
            self._ask(name, found.retrieve_object)
            yield local
        finally:
            local.unlink(missing_ok=True)

    def _ask(self, name: str, question: Callable[[], _Result]) -> _Result:
        with _explained(self.place(name)):
            return question()


@contextmanager
def _explained(where: str) -> Iterator[None]:
    """Plugins raise what their libraries raise; a user sees one line, and no request's headers."""
    try:
        yield
    except PublishError:
        raise
    except OSError as error:
        raise PublishError(error.strerror or type(error).__name__, where=where) from None
    except WorkflowError as error:
        raise PublishError(_first_line(error), where=where) from None
    except Exception as error:
        raise PublishError(
            f"{type(error).__name__}: {_first_line(error)}",
            where=where,
            remedy="see that the storage answers and that its credentials are in the environment",
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "the storage refuses")[:300]


def _plugin(provider: str) -> Plugin:
    registry = StoragePluginRegistry()
    try:
        plugin: Plugin = registry.get_plugin(provider)
    except InvalidPluginException:
        raise PublishError(
            f"there is no storage plugin '{provider}'",
            where="config/config.yaml: publish.storage",
            remedy=f"install snakemake-storage-plugin-{provider}, or "
            + did_you_mean(provider, sorted(registry.plugins)),
        ) from None
    if not plugin.is_read_write():
        raise PublishError(
            f"the storage plugin '{provider}' only reads",
            where="config/config.yaml: publish.storage",
        )
    return plugin


def _settings(plugin: Plugin, storage: Storage) -> Any:
    """The plugin's settings: from the configuration, and from the variables that Snakemake reads.

    Whatever the plugin's author does not show (``repr=False``) or calls a token is a secret, and
    is taken from the environment only.
    """
    if plugin.settings_cls is None:
        if storage.settings:
            raise PublishError(
                f"the storage plugin '{storage.provider}' has no settings",
                where="config/config.yaml: publish.storage",
                found=", ".join(storage.settings),
            )
        return None
    fields = {field.name: field for field in dataclasses.fields(plugin.settings_cls)}
    values = {}
    for name, value in storage.settings.items():
        if name not in fields:
            raise PublishError(
                f"the storage plugin '{storage.provider}' has no setting '{name}'",
                where="config/config.yaml: publish.storage",
                remedy=did_you_mean(name, sorted(fields)),
            )
        if not fields[name].repr or any(word in name for word in ("token", "password", "secret")):
            raise PublishError(
                f"'{name}' is a secret and does not belong in the configuration",
                where="config/config.yaml: publish.storage",
                remedy=f"set the environment variable {plugin.get_envvar(name)}",
            )
        values[name] = value
    for name, field in fields.items():
        if field.metadata.get("env_var") and name not in values:
            told = os.environ.get(plugin.get_envvar(name))
            if told:
                values[name] = field.metadata.get("type", str)(told)
    return plugin.settings_cls(**values)


def _replace(local: Path, target: Path) -> None:
    """Copy beside the target and rename.

    The fs plugin removes the target before it calls rsync; a kill in between would leave neither
    the old file nor the new: https://github.com/snakemake/snakemake-storage-plugin-fs
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    shutil.copyfile(local, partial)
    with partial.open("rb") as stream:
        os.fsync(stream.fileno())
    partial.replace(target)


def _remove_empty(folder: Path, top: Path) -> None:
    while folder != top and folder.is_relative_to(top) and folder.is_dir():
        for partial in folder.glob(".*.partial"):
            partial.unlink()
        if any(folder.iterdir()):
            return
        folder.rmdir()
        folder = folder.parent
