"""Fetch a model's source tree: a pinned Hub commit or a local folder, verified file by file, or
the first layers of a tree that is there.

``<into>/files`` appears complete or not at all, and ``<into>/SOURCE.json`` after it.
"""

import argparse
import sys
from pathlib import Path

from phiforge.artifact.tree import fresh_tree, make_read_only
from phiforge.jobs import Fetch, read_job
from phiforge.sources.first_layers import copy_first_layers
from phiforge.sources.local import copy_local, listed_states
from phiforge.sources.local_digests import remember
from phiforge.sources.source import FirstLayers, LocalSource, Source, SourceError, parse_source
from phiforge.sources.tree import SourceFile, SourceTree


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule fetch writes it")
    parser.add_argument("--into", required=True, type=Path, help="artifacts/source/<model>")
    parser.add_argument("--whole", nargs="?", type=Path, help="SOURCE.json of the whole model")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Fetch, arguments.job)
    fetch(job.model, parse_source(job.source), arguments.into, arguments.whole)


def fetch(model: str, source: Source, into: Path, whole: Path | None = None) -> None:
    """Put the verified checkpoint files of ``source`` and their record in place.

    Args:
        model: the model's name, for messages.
        source: what `parse_source` reads from JSON values.
        into: ``artifacts/source/<model>``.
        whole: SOURCE.json of the model whose first layers are wanted; its files lie beside it.

    Raises:
        SourceError: the source cannot be had, or is not what it must be.
        TreeError: another process fetches into the same folder.
    """
    if into.exists() and not into.is_dir():
        raise SourceError("not a folder", where=into)
    into.mkdir(parents=True, exist_ok=True)
    tree = SourceTree(into)
    before = listed_states(source) if isinstance(source, LocalSource) else {}
    with fresh_tree(tree.files) as scratch:
        files = _fill(source, tree, scratch, f"fetch {model}", whole)
        make_read_only(scratch)
        tree.invalidate()
    if before:
        remember(into, before)
    tree.save_state(source, files)
    size = sum(file.size for file in files)
    print(f"fetch {model}: {len(files)} verified files, {size / 1e9:.2f} GB", file=sys.stderr)


def _fill(
    source: Source, tree: SourceTree, scratch: Path, label: str, whole: Path | None
) -> list[SourceFile]:
    if isinstance(source, LocalSource):
        return copy_local(source, scratch)
    if isinstance(source, FirstLayers):
        if whole is None:
            raise SourceError(f"the files of {source.model} are not named", remedy="give --whole")
        return copy_first_layers(source, whole.parent / "files", scratch)
    # The client takes half a second to import, and a local folder does not need it.
    from phiforge.sources.hub import fetch_hub

    return fetch_hub(source, tree, scratch, label)
