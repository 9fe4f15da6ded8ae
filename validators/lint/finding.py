"""What a lint says: one thing that is not as it should be, by name."""

from collections.abc import Sequence

from phiforge.receipts.receipt import Note

_SHOWN = 3


class Finding(Note):
    """One thing, with its own name in a receipt, for instance ``group-size``."""


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are.

    >>> some(["a", "b"]), some(["a", "b", "c", "d", "e"])
    ('a, b', 'a, b, c and 2 more')
    """
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
