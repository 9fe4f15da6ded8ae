"""Publish verified releases to a Hub and to storages: completely or not at all, and only once."""

from phiforge.errors import PhiforgeError


class PublishError(PhiforgeError):
    """A release is not published; what was published before is as it was."""
