"""``python -m phiforge.sources``: fetch one model's source tree.

``<into>/files`` appears whole or not at all, and ``<into>/SOURCE.json`` after it.
"""

import argparse
import sys
from pathlib import Path

from phiforge.artifact.tree import fresh_tree, make_read_only
from phiforge.errors import run_command
from phiforge.sources.local import copy_local
from phiforge.sources.request import LocalSource, Source, SourceError, parse_source
from phiforge.sources.tree import SourceFile, SourceTree


def main() -> None:
    """Read the arguments, fetch, and put the tree and its record in place."""
    parser = argparse.ArgumentParser(prog="python -m phiforge.sources", description=__doc__)
    parser.add_argument("--model", required=True, help="the model's name, for messages")
    parser.add_argument("--source", required=True, help="the model's source block as JSON")
    parser.add_argument("--into", required=True, type=Path, help="artifacts/source/<model>")
    arguments = parser.parse_args()
    source = parse_source(arguments.source)
    if arguments.into.exists() and not arguments.into.is_dir():
        raise SourceError("not a folder", where=arguments.into)
    arguments.into.mkdir(parents=True, exist_ok=True)
    tree = SourceTree(arguments.into)
    with fresh_tree(tree.files) as scratch:
        files = _fetch(source, tree, scratch, f"fetch {arguments.model}")
        make_read_only(scratch)
        tree.forget()
    tree.remember(source, files)
    size = sum(file.size for file in files)
    print(
        f"fetch {arguments.model}: {len(files)} verified files, {size / 1e9:.2f} GB",
        file=sys.stderr,
    )


def _fetch(source: Source, tree: SourceTree, scratch: Path, label: str) -> list[SourceFile]:
    if isinstance(source, LocalSource):
        return copy_local(source, scratch)
    # The client is imported only where there is a Hub to ask.
    from phiforge.sources.hub import fetch_hub

    return fetch_hub(source, tree, scratch, label)


if __name__ == "__main__":
    run_command(main)
