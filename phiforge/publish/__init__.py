"""Publish verified releases to a Hub and to storages: completely or not at all, and only once."""

from dataclasses import dataclass

from phiforge.errors import PhiforgeError


class PublishError(PhiforgeError):
    """A release is not published; what was published before is as it was."""


@dataclass(frozen=True)
class Removal:
    """What pruning removes.

    Attributes:
        what: the version, or what else it is.
        names: its files.
        size: of these, in bytes, if known.
    """

    what: str
    why: str
    names: tuple[str, ...] = ()
    size: int = 0
