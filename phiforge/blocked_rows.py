"""Separate the rows that cannot run here from those that are checked: of each variant, one job
writes all receipts of the former.

A rule names its outputs before it knows its wildcards, so there is a rule for each set of rows.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from phiforge.settings.settings import Settings


class Target(NamedTuple):
    """A check, by its names."""

    model: str
    variant: str
    device: str


class Rows:
    """The rows of every model and variant.

    Args:
        is_blocked: whether a receipt takes no more than the configuration says.
    """

    def __init__(self, settings: Settings, is_blocked: Callable[[Target], bool]) -> None:
        self._blocked: dict[tuple[str, str], tuple[str, ...]] = {}
        self._checked: dict[str, list[str]] = {}
        for model in settings.models:
            for variant, block in settings.variants.items():
                blocked = {r for r in block.devices if is_blocked(Target(model, variant, r))}
                checked = [row for row in block.devices if row not in blocked]
                self._blocked[model, variant] = tuple(sorted(blocked))
                self._checked.setdefault(model, []).extend(f"{variant}/{row}" for row in checked)

    def blocked(self, model: str, variant: str) -> tuple[str, ...]:
        return self._blocked[model, variant]

    def sets(self) -> dict[tuple[str, ...], str]:
        """Map each set of blocked rows to the pattern of the models that have it."""
        found: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for (model, variant), rows in self._blocked.items():
            if rows:
                found.setdefault(rows, {}).setdefault(model, []).append(f"{variant}/")
        return {rows: _pattern(follows) for rows, follows in found.items()}

    def checked(self) -> str:
        """Return the pattern of the models that have a row which is checked."""
        return _pattern({m: [f"{one}." for one in rows] for m, rows in self._checked.items()})


def _pattern(follows: Mapping[str, Iterable[str]]) -> str:
    """Match a model where one of its own ``follows`` stands behind it in the path.

    >>> _pattern({"a": ["x/"], "b": ["x/"], "c": ["y/"]})
    '(?:a|b)(?=/(?:x/))|(?:c)(?=/(?:y/))'
    """
    models: dict[str, list[str]] = {}
    for model, parts in follows.items():
        models.setdefault("|".join(map(re.escape, parts)), []).append(re.escape(model))
    some = (f"(?:{'|'.join(names)})(?=/(?:{parts}))" for parts, names in models.items() if parts)
    return "|".join(some) or "(?!)"
