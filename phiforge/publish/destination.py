"""Open the places where a variant is published, as the configuration names them."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from phiforge.jobs import Publish as PublishJob
from phiforge.jobs import read_job
from phiforge.publish import PublishError, Removal
from phiforge.publish.snapshot import ReleaseSnapshot
from phiforge.settings.command_line import add_configuration, configuration, split_name
from phiforge.settings.config import Hub, Publish, Storage
from phiforge.settings.plan import plan
from phiforge.settings.settings import load
from phiforge.verify.revocations import Revocation


class Destination(Protocol):
    """The place of one variant."""

    address: str

    def push_revocations(self, local: tuple[Revocation, ...]) -> str | None:
        """Publish this machine's revocations; report in one line, None: nothing changed."""

    def publish(self, release: ReleaseSnapshot, local: tuple[Revocation, ...]) -> str:
        """Publish a release and this machine's revocations; report in one line."""

    def removals(self, keep: int) -> list[Removal]:
        """List what pruning to ``keep`` versions removes."""

    def remove(self, removals: list[Removal]) -> None:
        """Remove these."""


def add_releases(parser: argparse.ArgumentParser) -> None:
    """Add the options that `read_configuration` reads."""
    parser.add_argument(
        "releases", nargs="*", metavar="MODEL/VARIANT", help="default: all that are configured"
    )
    parser.add_argument("--job", type=Path, help="the job, as rule publish writes it")
    add_configuration(parser)


def read_configuration(arguments: argparse.Namespace) -> tuple[Publish, list[tuple[str, str]]]:
    """Read key ``publish``, and model and variant of each release that is named, or of all.

    Raises:
        ConfigurationError: the configuration is not valid.
        PublishError: it names no place to publish to.
    """
    job = None if arguments.job is None else read_job(PublishJob, arguments.job)
    given = {} if job is None else {"publish": job.policy}
    settings = load({**configuration(arguments), **given})
    if not settings.publish.hub and not settings.publish.storage:
        raise PublishError(
            "there is nowhere to publish to",
            where="config/config.yaml: publish",
            remedy="name a hub, a storage, or both (docs/publishing.md)",
        )
    names = arguments.releases or (job.releases if job else ())
    if names:
        return settings.publish, [split_name(name) for name in names]
    return settings.publish, list(plan(settings).releases)


def open_destination(place: Hub | Storage, model: str, variant: str) -> Destination:
    """Open a variant's place; the clients are imported only where they are needed."""
    if isinstance(place, Hub):
        from phiforge.publish.hub_repository import HubRepository

        return HubRepository(place, model, variant)
    from phiforge.publish.storage_repository import StorageRepository

    return StorageRepository(place, model, variant)


def places(publish: Publish) -> Iterator[Hub | Storage]:
    """List the storages, then the Hub."""
    yield from publish.storage
    if publish.hub:
        yield publish.hub
