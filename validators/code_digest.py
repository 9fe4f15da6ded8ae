"""Which code a check runs, as a digest: a receipt of other code is not a receipt of this one."""

from phiforge.settings.modules import modules_digest

CHECK_MODULES = ("validators.check", "validators.worker")


def check_modules(runtime: str) -> tuple[str, ...]:
    """Where the imports of a check by ``validators/runtimes/<runtime>.py`` begin."""
    return (*CHECK_MODULES, f"validators.runtimes.{runtime}")


def validator_digest(runtime: str) -> str:
    """Digest of every file that such a check imports, the same in a checkout and in a kit."""
    return modules_digest(*check_modules(runtime))
