"""Which code a check runs, as a digest: a receipt of other code is not a receipt of this one."""

import hashlib

from phiforge.artifact.record import canonical
from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.settings.modules import module_files

CHECK_MODULES = ("validators.check", "validators.worker")


def check_modules(runtime: str) -> tuple[str, ...]:
    """Where the imports of a check by ``validators/runtimes/<runtime>.py`` begin."""
    return (*CHECK_MODULES, f"validators.runtimes.{runtime}")


def validator_digest(runtime: str) -> str:
    """SHA-256 of the canonical JSON of {path: SHA-256} of every file such a check imports.

    Paths are relative to the checkout or kit, so both give the same digest.
    """
    files = module_files(*check_modules(runtime))
    digests = {name: sha256_file(ROOT / name) for name in files}
    return hashlib.sha256(canonical(digests).encode()).hexdigest()
