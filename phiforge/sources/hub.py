"""Fetch the checkpoint files of a pinned Hub commit into a source tree."""

import sys
from collections.abc import Collection
from pathlib import Path

from phiforge.artifact.tree import link_or_copy, sha256_file
from phiforge.sources.checkpoint import (
    CONFIG,
    WEIGHTS_INDEX,
    check_architecture,
    check_checkpoint,
    choose_files,
    shards,
)
from phiforge.sources.client import HubCommit, HubFile
from phiforge.sources.download import download
from phiforge.sources.source import HubSource, SourceError
from phiforge.sources.tree import SourceFile, SourceTree, check_disk


def fetch_hub(source: HubSource, tree: SourceTree, scratch: Path, label: str) -> list[SourceFile]:
    """Fill ``scratch`` with the verified checkpoint files of ``source``.

    What is on disk already, in the tree or from an interrupted run, is verified and not fetched
    again; if that is everything, no request is made.

    Raises:
        SourceError: the commit cannot be had, or its files are not a complete checkpoint.
    """
    if files := tree.load_cached(source, scratch):
        print(f"{label}: all files are present; no request was made", file=sys.stderr)
        return files
    commit = HubCommit(source)
    listing = commit.listing()
    if CONFIG in listing:
        check_architecture(_download([listing[CONFIG]], commit, tree, label)[CONFIG], commit.where)
    chosen = choose_files([name for name in listing if "/" not in name], commit.where)
    if WEIGHTS_INDEX in chosen:
        index = _download([listing[WEIGHTS_INDEX]], commit, tree, label)[WEIGHTS_INDEX]
        chosen += _listed(shards(index, commit.where), listing, commit.where)
    wanted = [listing[name] for name in sorted(chosen)]
    _check_pins(source, {file.path: file.digest if file.lfs else None for file in wanted})
    tree.drop_stale({file.digest for file in wanted})
    paths = _download(wanted, commit, tree, label)
    check_checkpoint(paths, commit.where)
    files = [_verified(file, paths[file.path]) for file in wanted]
    _check_pins(source, {file.path: file.sha256 for file in files})
    for name, path in paths.items():
        link_or_copy(path, scratch / name)
    return files


def _download(
    files: list[HubFile], commit: HubCommit, tree: SourceTree, label: str
) -> dict[str, Path]:
    """Download what is missing of ``files``, and return their unfinished places by name."""
    tree.unfinished.mkdir(exist_ok=True)
    paths = {file.path: tree.unfinished / file.digest for file in files}
    missing = 0
    for file in files:
        path = paths[file.path]
        tree.reuse(file.path, file.size, path)
        missing += max(0, file.size - (path.stat().st_size if path.exists() else 0))
    check_disk(tree.folder, missing)
    for file in files:
        download(commit, file, paths[file.path], label)
    return paths


def _listed(names: list[str], listing: Collection[str], where: str) -> list[str]:
    for name in names:
        if name not in listing:
            raise SourceError(f"{WEIGHTS_INDEX} names {name}, which is missing", where=where)
    return names


def _check_pins(source: HubSource, digests: dict[str, str | None]) -> None:
    """Compare the configuration's own pins with file name to SHA-256; None: not known yet."""
    for name, pin in sorted(source.sha256.items()):
        if name not in digests:
            raise SourceError(
                f"sha256 is pinned for {name}, which is not among the files to fetch",
                where=source.repo,
            )
        if digests[name] not in (None, pin):
            raise SourceError("not the pinned file", where=name, expected=pin, found=digests[name])


def _verified(file: HubFile, path: Path) -> SourceFile:
    if file.lfs:
        return SourceFile(file.path, file.size, file.digest)
    return SourceFile(file.path, file.size, sha256_file(path), file.digest)
