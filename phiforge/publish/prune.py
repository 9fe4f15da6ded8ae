"""Remove old versions from where they are published; without --yes, list what would be removed.

The newest versions of each variant stay, as many as 'publish.keep' says or --keep. Do not run it
while someone publishes.
"""

import argparse

from phiforge.errors import printable
from phiforge.publish.destination import add_releases, open_destination, places, read_configuration
from phiforge.release.card import readable_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--yes", action="store_true", help="remove them")
    parser.add_argument("--keep", type=_positive, help="versions to keep of each variant")
    add_releases(parser)


def run(arguments: argparse.Namespace) -> None:
    """List the removals of each variant and place; with ``--yes``, remove them."""
    publish, releases = read_configuration(arguments)
    keep = arguments.keep or publish.keep
    verb = "removing" if arguments.yes else "would remove"
    total = 0
    for model, variant in releases:
        for place in places(publish):
            destination = open_destination(place, model, variant)
            removals = destination.removals(keep)
            for removal in removals:
                files = f", {len(removal.names)} files" if removal.names else ""
                size = f", {readable_size(removal.size)}" if removal.size else ""
                what = f"{model}/{variant} {removal.what} from {destination.address}"
                print(printable(f"{verb} {what}{files}{size}: {removal.why}"), flush=True)
            if arguments.yes and removals:
                destination.remove(removals)
            total += len(removals)
    if not total:
        print(f"nothing to remove: no variant has more than {keep} versions")
    elif not arguments.yes:
        print("nothing was removed; run again with --yes")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value
