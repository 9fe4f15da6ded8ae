"""Digest the code that a check runs: a receipt made by other code does not count."""

from phiforge.settings.modules import modules_digest

CHECK_MODULES = ("validators.check", "validators.execution_worker", "validators.worker")


def check_modules(runtime: str) -> tuple[str, ...]:
    """Return the modules that a check by ``validators/runtimes/<runtime>.py`` starts from."""
    return (*CHECK_MODULES, f"validators.runtimes.{runtime}")


def validator_digest(runtime: str) -> str:
    """Digest every file that such a check imports, the same in a checkout and in a kit."""
    return modules_digest(*check_modules(runtime))
