"""Config key ``npu_compiler``: the two libraries here, a lab host that compiles, or a courier."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from phiforge.settings.devices import LOCKS, LabHost, lab_host
from phiforge.settings.documents import ConfigurationError, did_you_mean

KEY = "npu_compiler"
_LIBRARIES = ("loader", "compiler")
_LOCK = "device-openvino"


def read_npu_compiler(
    given: Mapping[str, Any] | None, where: str
) -> tuple[dict[str, Any] | None, LabHost | None]:
    """What the converter is told, and the lab host, which is no part of that.

    Returns:
        ``{loader, compiler}`` for libraries that are here, or ``{by: ssh|courier, lock,
        libraries}``, those of the machine there or null; None: there is no compiler. And the lab
        host of ``by: ssh``.

    Raises:
        ConfigurationError: two ways at once, half of one, or a file that is not there.
    """
    if given is None:
        return None, None
    ways = [name for name in ("ssh", "courier") if name in given]
    libraries = {part: given[part] for part in _LIBRARIES if part in given}
    if len(libraries) == 1:
        (missing,) = set(_LIBRARIES) - set(libraries)
        raise _wrong(where, missing, "is missing", "name both libraries, or neither")
    if len(ways) == 2:
        raise _wrong(where, "courier", "stands beside 'ssh'", "take one of the two out")
    if not ways:
        return _here(given, libraries, where), None
    lock = given.get("lock", _LOCK)
    if not (LOCKS / f"{lock}.lock").is_file():
        known = sorted(file.stem for file in LOCKS.glob("device-*.lock"))
        raise _wrong(where, "lock", f"names '{lock}'", did_you_mean(lock, known))
    told = {"by": ways[0], "lock": lock, "libraries": libraries or None}
    return told, _host(given["ssh"]) if ways == ["ssh"] else None


def _here(given: Mapping[str, Any], libraries: Mapping[str, Any], where: str) -> dict[str, Any]:
    if not libraries:
        raise _wrong(where, "loader", "is missing", "name both libraries, 'ssh' or 'courier'")
    if "lock" in given:
        raise _wrong(where, "lock", "has no meaning without 'ssh' or 'courier'", "take it out")
    for part, library in libraries.items():
        # A configured library that is not there is a mistake; only null means 'not here'.
        if not Path(library["path"]).is_file():
            raise _wrong(
                where,
                f"{part}.path",
                f"names {library['path']}, which is not a file",
                "correct the path, or say 'npu_compiler: null'",
            )
    return dict(libraries)


def _host(block: Mapping[str, Any]) -> LabHost:
    """Paths are relative to this checkout, as all of the configuration's."""
    host = lab_host(KEY, block, Path("config.yaml"))
    return replace(host, identity=str(Path(host.identity).resolve()))


def _wrong(where: str, key: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"key '{KEY}.{key}' {what}", where=where, remedy=remedy)
