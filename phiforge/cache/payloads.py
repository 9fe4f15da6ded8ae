"""Carry what records name between machines that share no file system.

Snakemake's storage carries the records. Each command fetches what the records among its inputs
name, by digest, and stores what its own record names before that record appears:

    <storage>/files/<sha256, 2 digits>/<sha256>        files of sources, payloads and references
    <storage>/beside/<sha256 of the receipt>/<suffix>  its envelope, and where it came from
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS, name_problem
from phiforge.artifact.file_lock import file_lock
from phiforge.artifact.manifest import read_checksums
from phiforge.artifact.origin import origin_path
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import files_under, fresh_tree, make_read_only, sha256_file
from phiforge.cache import CacheRefusal
from phiforge.cache.files import Files
from phiforge.cache.work import BUILD, REFERENCE, SOURCE
from phiforge.publish.storage_client import StorageClient
from phiforge.receipts.receipt_files import envelope_path
from phiforge.settings.config import Storage

_READ: tuple[str, ...] = ("place", "reference", "convert", "rebuild", "compare", "check")
_READ += ("blocked", "kit", "release")
_MADE = {
    "fetch": "--into",
    "reference": "--into",
    "convert": "--into",
    "rebuild": "--into",
    "check": "--receipt",
}


class Payloads:
    """A command's side of the storage.

    Args:
        argv: the command line.
        storage: ``url`` and ``options``, as `phiforge.settings.config.Storage` has them.

    Raises:
        PublishError: the storage cannot be reached that way, or refuses.
    """

    def __init__(self, argv: Sequence[str], storage: Mapping[str, Any]) -> None:
        self._rule, *self._words = argv
        self._client = StorageClient(Storage(**storage), "--default-storage-prefix")
        self._files = Files(self._client)

    def fetch(self) -> None:
        """Fetch what the command's inputs name, unless it is here.

        Raises:
            CacheRefusal: a file is not there, or its bytes are not those of its digest.
        """
        for record in _records(self._words) if self._rule in _READ else ():
            if _is_receipt(record):
                for path, name in _beside(record):
                    if not path.is_file() and self._client.size(name) is not None:
                        self._client.download(name, path)
            else:
                tree = _tree(record)
                # Two releases may want the payload of one base.
                with file_lock(tree.with_name(f".{tree.name}.fetch")):
                    self._fetch_tree(record, tree)
        _tell("fetched", self._files)

    def store(self) -> None:
        """Store what the record names that the command has made."""
        if self._rule not in _MADE:
            return
        made = self._words[self._words.index(_MADE[self._rule]) + 1]
        for record in _records([made]):
            if _is_receipt(record):
                for path, name in _beside(record):
                    if path.is_file():
                        self._client.upload(path, name)
            else:
                tree = _tree(record)
                for name, digest in _named(record, tree).items():
                    self._files.put(tree / name, digest)
        _tell("stored", self._files)

    def _fetch_tree(self, record: Path, tree: Path) -> None:
        with TemporaryDirectory(prefix="phiforge-payload-") as folder:
            if record.name == BUILD and (payload := read_record(record).get("artifact_sha256")):
                self._files.get(f"{CHECKSUMS} of {record}", payload, Path(folder) / CHECKSUMS)
            files = _named(record, Path(folder))
        beside = tree == record.parent
        here = set(files) if beside else {name.as_posix() for name in files_under(tree)}
        if here == set(files) and all(_is(tree / name, files[name]) for name in files):
            return
        with fresh_tree(tree) as scratch:
            for name, digest in files.items():
                if problem := name_problem(name):
                    raise CacheRefusal("hostile-name", f"'{name[:80]}' {problem}", record)
                self._files.get(f"{name} of {record}", digest, scratch / name)
            if beside:
                shutil.copy2(record, scratch)
            else:
                make_read_only(scratch)


def _records(words: Sequence[str]) -> Iterator[Path]:
    """Yield the records that words of a command line name, themselves or by their folder."""
    seen = set()
    for path in (Path(word) for word in words if not word.startswith("-")):
        folder = path.parent if path.name == "files" else path
        itself = [path] if path.name in (SOURCE, BUILD) or _is_receipt(path) else []
        for record in (*itself, *(folder / name for name in (SOURCE, BUILD, REFERENCE))):
            if record not in seen and record.is_file():
                seen.add(record)
                yield record


def _is_receipt(path: Path) -> bool:
    return path.suffix == ".json" and path.parent.parent.parent.name == "checks"


def _beside(receipt: Path) -> list[tuple[Path, str]]:
    """Return what may lie beside a receipt, and its name in the storage."""
    digest = sha256_file(receipt)
    return [
        (path, f"beside/{digest}/{path.name.removeprefix(receipt.stem + '.')}")
        for path in (envelope_path(receipt), origin_path(receipt))
    ]


def _tree(record: Path) -> Path:
    """Return the folder of the files that a record names."""
    return record.parent / {SOURCE: "files", BUILD: "payload", REFERENCE: ""}[record.name]


def _named(record: Path, sums: Path) -> Mapping[str, str]:
    """Return the files that a record names, to SHA-256.

    Args:
        sums: the folder where a payload's SHA256SUMS lies.
    """
    said = read_record(record)
    if record.name == SOURCE:
        return {one["path"]: one["sha256"] for one in said["files"]}
    if record.name == REFERENCE:
        return dict(said["files"])
    if "artifact_sha256" not in said:
        return {}  # blocked
    return {**read_checksums(sums), CHECKSUMS: said["artifact_sha256"]}


def _is(path: Path, digest: str) -> bool:
    return path.is_file() and sha256_file(path) == digest


def _tell(what: str, files: Files) -> None:
    """Say in the job's log what it cost."""
    if files.moved:
        print(f"storage: {what} {files.moved} bytes", flush=True)
        files.moved = 0
