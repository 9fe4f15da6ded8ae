"""What the configuration says about publishing, as values: who may be published, and where to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phiforge.errors import PhiforgeError

CHANNEL = "stable"
KEEP = 5


class PublishError(PhiforgeError):
    """A release is not published; what was published before stands as it was."""


@dataclass(frozen=True)
class Hub:
    """Config key ``publish.hub``; ``repo`` holds ``{model}`` and ``{variant}``."""

    repo: str
    private: bool = True

    def repo_of(self, model: str, variant: str) -> str:
        """The repository of a variant.

        >>> Hub("acme/{model}-{variant}").repo_of("phi3-tiny", "openvino-int4")
        'acme/phi3-tiny-openvino-int4'
        """
        return self.repo.format(model=model, variant=variant)


@dataclass(frozen=True)
class Storage:
    """One item of ``publish.storage``: the URL of a folder, and its file system's options."""

    url: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Policy:
    """Config key ``publish``.

    Attributes:
        channel: the least that is published; ``candidate`` lets stable releases through too.
        keys, authorities: PEM files that releases' signatures are held against.
        keep: versions of each variant that a clean-up leaves.
    """

    channel: str = CHANNEL
    keys: tuple[Path, ...] = ()
    authorities: tuple[Path, ...] = ()
    keep: int = KEEP
    hub: Hub | None = None
    storage: tuple[Storage, ...] = ()


def read_policy(publish: Mapping[str, Any]) -> Policy:
    """The policy that a validated ``publish`` block states.

    Raises:
        PublishError: it names no destination.
    """
    hub, storage = publish.get("hub"), publish.get("storage") or ()
    if not hub and not storage:
        raise PublishError(
            "there is nowhere to publish to",
            where="config/config.yaml: publish",
            remedy="name a hub, a storage, or both (docs/publishing.md)",
        )
    return Policy(
        channel=publish.get("channel", CHANNEL),
        keys=_paths(publish.get("keys", ())),
        authorities=_paths(publish.get("authorities", ())),
        keep=publish.get("keep", KEEP),
        hub=Hub(**hub) if hub else None,
        storage=tuple(Storage(**one) for one in storage),
    )


def _paths(names: Any) -> tuple[Path, ...]:
    return tuple(Path(name).expanduser() for name in names)
