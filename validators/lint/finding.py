"""What a lint says: one thing that is not as it should be, by name."""

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 3


@dataclass(frozen=True)
class Finding:
    """One thing.

    Attributes:
        name: its own name in a receipt, for instance ``group-size``.
        what: what was expected and what was found, in one sentence.
    """

    name: str
    what: str


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
