"""``python -m phiforge.publish …``: take releases where the configuration says; clean up there."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from phiforge.errors import PhiforgeError, run_command
from phiforge.publish.policy import Hub, Policy, PublishError, Storage, read_policy
from phiforge.publish.revocations import Revocations, local_revocations
from phiforge.publish.snapshot import (
    ReleaseSnapshot,
    RevokedError,
    publish_lock,
    release_snapshot,
)
from phiforge.publish.storage_client import StorageClient
from phiforge.publish.storage_repository import Removal, StorageRepository
from phiforge.release.card import readable_size
from phiforge.settings.documents import read_yaml
from phiforge.settings.plan import plan
from phiforge.settings.settings import CONFIG, load


class Destination(Protocol):
    """One variant's place somewhere."""

    def push_revocations(self, ours: Revocations) -> str | None: ...
    def publish(self, release: ReleaseSnapshot, ours: Revocations) -> str: ...
    def removals(self, keep: int) -> list[Removal]: ...
    def remove(self, removals: list[Removal]) -> None: ...


def main() -> None:
    arguments = _parse()
    told = {} if arguments.policy is None else {"publish": json.loads(arguments.policy)}
    settings = load({**read_yaml(CONFIG / "config.yaml"), **told})
    policy = read_policy(settings.publish.plain())
    names = arguments.releases or ["/".join(pair) for pair in plan(settings).releases]
    pairs = [_pair(name) for name in names]
    if arguments.command == "publish":
        _publish(pairs, policy, arguments.root)
    else:
        _prune(pairs, policy, arguments.keep or policy.keep, arguments.yes)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m phiforge.publish", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    publish = commands.add_parser("publish", help="publish releases; again without effect")
    publish.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")
    prune = commands.add_parser("prune", help="say which old versions would go; --yes removes them")
    prune.add_argument("--yes", action="store_true", help="remove them")
    prune.add_argument("--keep", type=_positive, help="versions to leave of each variant")
    for command in (publish, prune):
        command.add_argument("--policy", help="config key 'publish' as JSON; default: config.yaml")
        command.add_argument(
            "releases", nargs="*", metavar="MODEL/VARIANT", help="default: all that are configured"
        )
    return parser.parse_args()


def _publish(pairs: list[tuple[str, str]], policy: Policy, root: Path) -> None:
    """Publish each; what is refused does not keep the others back."""
    refused = 0
    for model, variant in pairs:
        folder = root / "release" / model / variant
        scratch = root / "publishing" / f"{model}.{variant}"
        try:
            with publish_lock(folder, scratch):
                _publish_one(folder, policy, scratch)
        except PhiforgeError as error:
            refused += 1
            print(f"not published: {error}", file=sys.stderr, flush=True)
    if refused:
        raise PublishError(
            f"{refused} of {len(pairs)} releases were not published",
            remedy="read the lines above; what was published before stands as it was",
        )


def _publish_one(folder: Path, policy: Policy, scratch: Path) -> None:
    """First what was taken back, wherever something of the variant is; then the release.

    A place that is in trouble keeps nothing from the others.
    """
    model, variant = folder.parent.name, folder.name
    ours = local_revocations(folder.parent, variant)
    troubles: list[PhiforgeError] = []
    ready: list[Hub | Storage] = []
    for place in _places(policy):
        try:
            with _opened(place, model, variant) as destination:
                told = destination.push_revocations(ours)
        except PhiforgeError as error:
            troubles.append(error)
        else:
            ready.append(place)
            if told:
                print(told, flush=True)
    try:
        with release_snapshot(folder, policy, scratch) as release:
            for place in ready:
                with _opened(place, model, variant) as destination:
                    print(destination.publish(release, ours), flush=True)
    except RevokedError as revoked:
        print(f"{revoked}, and is not published", flush=True)
    except PhiforgeError as error:
        troubles.append(error)
    for trouble in troubles[:-1]:
        print(f"not published: {trouble}", file=sys.stderr, flush=True)
    if troubles:
        raise troubles[-1]


def _prune(pairs: list[tuple[str, str]], policy: Policy, keep: int, yes: bool) -> None:
    """Say what goes; with ``yes``, also let it go."""
    total = 0
    for model, variant in pairs:
        for place in _places(policy):
            with _opened(place, model, variant) as destination:
                removals = destination.removals(keep)
                where = place.repo_of(model, variant) if isinstance(place, Hub) else place.url
                for removal in removals:
                    size = f", {readable_size(removal.size)}" if removal.size else ""
                    files = f", {len(removal.names)} files" if removal.names else ""
                    verb = "removing" if yes else "would remove"
                    told = f"{model}/{variant} {removal.what} from {where}"
                    print(f"{verb} {told}{files}{size}: {removal.why}", flush=True)
                if yes and removals:
                    destination.remove(removals)
                total += len(removals)
    if not total:
        print(f"nothing to remove: no variant has more than {keep} versions")
    elif not yes:
        print("nothing was removed; run again with --yes")


def _places(policy: Policy) -> list[Hub | Storage]:
    return [*policy.storage, *((policy.hub,) if policy.hub else ())]


@contextmanager
def _opened(place: Hub | Storage, model: str, variant: str) -> Iterator[Destination]:
    if isinstance(place, Storage):
        yield StorageRepository(StorageClient(place), model, variant)
    else:
        from phiforge.publish.hub_repository import (
            HubRepository,
        )  # the client, where there is a Hub to ask

        yield HubRepository(place, model, variant)


def _pair(name: str) -> tuple[str, str]:
    model, _, variant = name.partition("/")
    return model, variant


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


if __name__ == "__main__":
    run_command(main)
