"""Check config key ``npu_compiler``: the two libraries of Intel's compiler on this machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.settings.documents import ConfigurationError

KEY = "npu_compiler"


def read_npu_compiler(given: Mapping[str, Any] | None, where: str) -> dict[str, Any] | None:
    """Return what the converter is given, ``{loader, compiler}``; None: there is no compiler.

    Raises:
        ConfigurationError: a library is not there.
    """
    for part, library in (given or {}).items():
        # A configured library that is not there is a mistake; only null means 'not here'.
        if not Path(library["path"]).is_file():
            raise ConfigurationError(
                f"key '{KEY}.{part}.path' names {library['path']}, which is not a file",
                where=where,
                remedy="correct the path, or say 'npu_compiler: null'",
            )
    return None if given is None else dict(given)
