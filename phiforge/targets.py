"""Name what each target rule asks for."""

from phiforge.settings.plan import Plan, blocked_variant
from phiforge.settings.settings import Settings


class Targets:
    """The files of one plan's targets."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings = settings
        self._plan = plan

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
            if blocked_variant(self._settings.variants[variant], self._settings) is None
        ]
