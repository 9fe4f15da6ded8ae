"""Name what each target rule asks for."""

from collections.abc import Mapping

from phiforge.jobs import Blocked
from phiforge.settings.plan import Plan
from phiforge.settings.settings import Settings


class Targets:
    """The files of one plan's targets.

    Args:
        blocked: why each variant cannot be built; None: it can.
    """

    def __init__(
        self, settings: Settings, plan: Plan, blocked: Mapping[str, Blocked | None]
    ) -> None:
        self._settings, self._plan, self._blocked = settings, plan, blocked

    def release_records(self) -> list[str]:
        return [f"artifacts/released/{model}/{name}.json" for model, name in self._plan.releases]

    def results(self) -> list[str]:
        """Name all that a run leaves: Snakemake makes no file again that only others need."""
        return self.release_records() + self.receipts() + self.indexes() + self.pages()

    def receipts(self) -> list[str]:
        return [
            f"artifacts/checks/{model}/{variant}/{row}.json"
            for model, variant in self._plan.checks
            for row in self._settings.variants[variant].devices
        ]

    def indexes(self) -> list[str]:
        return [f"artifacts/indexed/{model}.json" for model in dict(self._plan.releases)]

    def pages(self) -> list[str]:
        return ["artifacts/indexed/page.html"] if self._plan.releases else []

    def promotions(self) -> list[str]:
        return [f"artifacts/promotions/{model}/{name}.json" for model, name in self._plan.releases]

    def releases_to_publish(self) -> list[str]:
        """Name the releases and, where only stable ones are published, their promotions."""
        policy = self._settings.publish
        if policy.hub is None and not policy.storage:
            return []  # the command says at once that nowhere is configured
        stable = policy.channel == "stable"
        return self.release_records() + (self.promotions() if stable else [])

    def reproduced_records(self) -> list[str]:
        return [
            f"artifacts/reproduced/{model}/{variant}.json"
            for model, variant in self._plan.builds
            if self._blocked[variant] is None
        ]
