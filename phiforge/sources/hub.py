"""A pinned Hub commit becomes the files of a source tree."""

import shutil
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from phiforge.artifact.tree import sha256_file
from phiforge.sources.checkpoint import WEIGHTS_INDEX, check_checkpoint, companions, shards
from phiforge.sources.client import HubClient, HubFile
from phiforge.sources.download import download
from phiforge.sources.progress import Meter
from phiforge.sources.request import HubSource, SourceError
from phiforge.sources.retry import Patience, TransientError
from phiforge.sources.tree import SourceFile, SourceTree, check_disk


def fetch_hub(source: HubSource, tree: SourceTree, scratch: Path, label: str) -> list[SourceFile]:
    """Fill ``scratch`` with the verified checkpoint files of ``source``.

    What is here already, in the tree or from an interrupted run, is verified and not fetched
    again; where that is everything, no request is made.

    Raises:
        SourceError: the commit cannot be had, or its files are not a whole checkpoint.
    """
    if files := tree.recall(source, scratch):
        print(f"{label}: everything is here; no request was made", file=sys.stderr)
        return files
    client = HubClient(source)
    where = client.where
    listing = _listing(client)
    chosen = companions([name for name in listing if "/" not in name], where)
    tree.unfinished.mkdir(exist_ok=True)
    if WEIGHTS_INDEX in chosen:
        index = listing[WEIGHTS_INDEX]
        tree.reuse(index.path, index.size, _place(tree, index))
        check_disk(tree.folder, index.size)
        with Meter(label, index.size) as meter:
            download(client, index, _place(tree, index), meter)
        chosen += _present(shards(_place(tree, index), where), listing, where)
    wanted = [listing[name] for name in sorted(chosen)]
    _check_pins(source, wanted, where)
    _prepare(tree, wanted)
    with Meter(label, sum(file.size for file in wanted)) as meter:
        for file in wanted:
            download(client, file, _place(tree, file), meter)
    here = {file.path: _place(tree, file) for file in wanted}
    check_checkpoint(here, where)
    files = [_verified(file, here[file.path], source) for file in wanted]
    _place_all(wanted, here, scratch)
    return files


def _listing(client: HubClient) -> dict[str, HubFile]:
    patience = Patience(client.where)
    while True:
        try:
            return client.listing()
        except TransientError as trouble:
            patience.wait(trouble)


def _place(tree: SourceTree, file: HubFile) -> Path:
    return tree.unfinished / file.digest


def _present(names: list[str], listing: Collection[str], where: str) -> list[str]:
    for name in names:
        if name not in listing:
            raise SourceError(f"{WEIGHTS_INDEX} names {name}, which is not there", where=where)
    return names


def _check_pins(source: HubSource, wanted: list[HubFile], where: str) -> None:
    """Compare the configuration's own pins with the listing before a byte of them is fetched."""
    by_name = {file.path: file for file in wanted}
    for name, pin in sorted(source.sha256.items()):
        if name not in by_name:
            raise SourceError(
                f"sha256 is pinned for {name}, which is not among the files to fetch", where=where
            )
        if by_name[name].lfs_sha256 not in (None, pin):
            raise SourceError(
                f"{name} is not the pinned file",
                where=where,
                expected=pin,
                found=by_name[name].lfs_sha256,
            )


def _prepare(tree: SourceTree, wanted: list[HubFile]) -> None:
    """Drop what belongs to other commits, take over what is here, see that the rest fits."""
    digests = {file.digest for file in wanted}
    for stale in tree.unfinished.iterdir():
        if stale.name not in digests:
            stale.unlink()
    missing = 0
    for file in wanted:
        place = _place(tree, file)
        tree.reuse(file.path, file.size, place)
        missing += max(0, file.size - (place.stat().st_size if place.exists() else 0))
    check_disk(tree.folder, missing)


def _verified(file: HubFile, path: Path, source: HubSource) -> SourceFile:
    sha256 = file.lfs_sha256 or sha256_file(path)
    pin = source.sha256.get(file.path, sha256)
    if sha256 != pin:
        raise SourceError("not the pinned file", where=file.path, expected=pin, found=sha256)
    return SourceFile(file.path, file.size, sha256, file.git_blob)


def _place_all(wanted: list[HubFile], here: Mapping[str, Path], scratch: Path) -> None:
    """Move the files into ``scratch``; files with equal bytes were fetched once."""
    left = Counter(file.digest for file in wanted)
    for file in wanted:
        left[file.digest] -= 1
        if left[file.digest]:
            shutil.copyfile(here[file.path], scratch / file.path)
        else:
            here[file.path].rename(scratch / file.path)
