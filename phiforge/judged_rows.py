"""Name the rows by which a variant is judged before it is released, and what they leave."""

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from phiforge.jobs import Blocked, RowPolicy
from phiforge.rule_params import Names, state_signatures
from phiforge.settings.plan import row_policies
from phiforge.settings.settings import Settings


class JudgedRows:
    """The rows of every variant and of its base's stand-ins that speak for it.

    Args:
        blocked: model, variant and row to why that check cannot run.
    """

    def __init__(
        self, settings: Settings, blocked: Callable[[str, str, str], Blocked | None]
    ) -> None:
        self._settings, self._blocked = settings, blocked
        # The functions of a job ask one after the other.
        self._policies_of = lru_cache(maxsize=8)(self._row_policies)
        state_signatures(self)

    def policies(self, names: Names) -> Mapping[str, RowPolicy]:
        return self._policies_of(names.model, names.variant)

    def _row_policies(self, model: str, variant: str) -> Mapping[str, RowPolicy]:
        of = self._settings.variants[variant]
        return row_policies(of, self._settings, partial(self._blocked, model))

    def receipts(self, names: Names) -> list[str]:
        of = {row: one.base or names.variant for row, one in self.policies(names).items()}
        return [f"artifacts/checks/{names.model}/{one}/{row}.json" for row, one in of.items()]

    def bases(self, names: Names) -> list[str]:
        """Name the build that a compiled variant is judged with."""
        found = sorted({one.base for one in self.policies(names).values() if one.base is not None})
        return [f"artifacts/build/{names.model}/{base}/BUILD.json" for base in found]

    def public_keys(self, names: Names) -> list[str]:
        return sorted({one.key for one in self.policies(names).values() if one.key is not None})
