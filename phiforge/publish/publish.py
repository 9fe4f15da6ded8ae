"""Publish releases to the Hub and the storages that the configuration names.

What is published already is left as it is. Secrets come from the environment only: HF_TOKEN for the
Hub, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for S3.
"""

import argparse
import sys
from pathlib import Path

from phiforge.errors import PhiforgeError, printable
from phiforge.publish import PublishError
from phiforge.publish.destination import add_releases, open_destination, places, read_configuration
from phiforge.publish.revocations import local_revocations
from phiforge.publish.snapshot import RevokedError, publish_lock, release_snapshot
from phiforge.settings.config import Publish


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")
    add_releases(parser)


def run(arguments: argparse.Namespace) -> None:
    """Publish each release; one that is refused does not keep the others back."""
    publish, releases = read_configuration(arguments)
    refused = 0
    for model, variant in releases:
        folder = arguments.root / "release" / model / variant
        scratch = arguments.root / "publishing" / f"{model}.{variant}"
        try:
            with publish_lock(folder, scratch):
                errors = _publish(folder, publish, scratch)
        except PhiforgeError as refusal:
            errors = [refusal]
        for error in errors:
            print(f"not published: {error}", file=sys.stderr, flush=True)
        refused += bool(errors)
    if refused:
        raise PublishError(
            f"{refused} of {len(releases)} releases were not published",
            remedy="read the lines above; what was published before is as it was",
        )


def _publish(folder: Path, publish: Publish, scratch: Path) -> list[PhiforgeError]:
    """Push revocations to wherever the variant is published, then publish the release.

    A place that fails keeps nothing from the others; its error is returned.
    """
    model, variant = folder.parent.name, folder.name
    revocations = local_revocations(folder.parent, variant)
    errors: list[PhiforgeError] = []
    ready = []
    for place in places(publish):
        try:
            destination = open_destination(place, model, variant)
            report = destination.push_revocations(revocations)
        except PhiforgeError as error:
            errors.append(error)
        else:
            ready.append(destination)
            if report:
                print(printable(report), flush=True)
    try:
        with release_snapshot(folder, publish, scratch) as release:
            for destination in ready:
                try:
                    print(printable(destination.publish(release, revocations)), flush=True)
                except PhiforgeError as error:
                    errors.append(error)
    except RevokedError as revoked:
        print(f"{revoked}, and is not published", flush=True)
    except PhiforgeError as error:
        errors.append(error)
    return errors
