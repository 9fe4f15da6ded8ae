"""Which of our own files and which pinned versions a module's result depends on.

Snakemake sees neither changes in imported modules nor in installed packages; rules declare a
digest of the modules and their pinned versions as ``params:``. Modules are read, never imported.
"""

import ast
import atexit
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from phiforge.artifact.lock_file import LockedDistribution, read_lock
from phiforge.artifact.record import canonical, write_text
from phiforge.checkout import ROOT
from phiforge.decoding import DecodeError, decode
from phiforge.settings.documents import ConfigurationError

LOCK = Path("envs/main.lock")
# What files import, by the SHA-256 of their bytes: to parse them takes a third of our own planning.
CACHE = ROOT / ".snakemake/phiforge-modules.json"


@cache
def module_files(*modules: str) -> tuple[str, ...]:
    """The files of ``modules`` and of every module of this checkout they import, sorted.

    Paths are relative to the checkout.

    >>> module_files("phiforge.artifact.record")
    ('phiforge/__init__.py', 'phiforge/errors.py', 'phiforge/artifact/record.py')
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        for file in _files_of(waiting.pop()):
            if file not in found:
                found.add(file)
                waiting += _read(file).imports
    return tuple(sorted(found))


@cache
def modules_digest(*modules: str) -> str:
    """SHA-256 of the canonical JSON of {path: SHA-256} of `module_files`.

    Paths are relative to the checkout or kit, so both give the same digest.
    """
    digests = {file: _sha256(file) for file in module_files(*modules)}
    return hashlib.sha256(canonical(digests).encode()).hexdigest()


@cache
def _sha256(file: str) -> str:
    return hashlib.sha256((ROOT / file).read_bytes()).hexdigest()


@cache
def _files_of(module: str) -> tuple[str, ...]:
    """The module's own file and the ``__init__`` files of the packages it is in."""
    parts = module.split(".")
    stems = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    files = [file for stem in stems for file in (f"{stem}.py", f"{stem}/__init__.py")]
    return tuple(file for file in files if os.path.isfile(f"{ROOT}/{file}"))  # noqa: PTH113


@dataclass(frozen=True)
class _Module:
    """What a file says of what it depends on."""

    imports: tuple[str, ...]
    toolchain: tuple[str, ...]
    environment: str | None


@dataclass(frozen=True)
class _Cache:
    """What earlier processes have parsed, by the SHA-256 of a file."""

    modules: Mapping[str, _Module]


@cache  # dozens of rules ask for the same files while Snakemake parses
def _read(file: str) -> _Module:
    cached, digest = _cached(), _sha256(file)
    if digest not in cached:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        toolchain = _literal(tree, "TOOLCHAIN") or ()
        module = _Module(tuple(_imports(tree)), tuple(toolchain), _literal(tree, "ENVIRONMENT"))
        cached[digest] = module
    return cached[digest]


@cache
def _cached() -> dict[str, _Module]:
    """Load what an earlier process has parsed; what this one adds is saved at its end."""
    modules: dict[str, _Module] = {}
    with suppress(OSError, ValueError, DecodeError):
        entries = json.loads(CACHE.read_text(encoding="utf-8"))
        modules |= decode(_Cache, {"modules": entries}).modules
    atexit.register(_save, modules, len(modules))
    return modules


def _save(modules: dict[str, _Module], known: int) -> None:
    """Write the cache where Snakemake keeps its own, if there is anything new and such a folder."""
    if len(modules) > known and CACHE.parent.is_dir():
        with suppress(OSError):
            write_text(CACHE, json.dumps({digest: asdict(one) for digest, one in modules.items()}))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Name what a file imports at any depth; only statements import, so only they are visited."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            waiting += getattr(node, block, [])
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def pinned_toolchain(*modules: str) -> dict[str, str]:
    """Locked versions of what ``modules`` and their local imports name in a literal ``TOOLCHAIN``.

    A module of another environment names it in a literal ``ENVIRONMENT``; its versions are those
    of that environment's lock, and told apart by its name: ``torch (npu-library)``.

    Raises:
        ConfigurationError: a named distribution is not in the lock file.
    """
    versions = {}
    for file in module_files(*modules):
        environment = _read(file).environment
        lock = LOCK if environment is None else LOCK.with_name(f"{environment}.lock")
        pinned = locked(lock)
        for name in _read(file).toolchain:
            if name not in pinned:
                raise ConfigurationError(
                    f"TOOLCHAIN names '{name}', which {lock} does not pin",
                    where=file,
                    remedy="add it to what the lock is made from and run 'make lock'",
                )
            key = name if environment is None else f"{name} ({environment})"
            versions[key] = pinned[name].version
    return dict(sorted(versions.items()))


@cache
def made_with(code: tuple[str, ...], tools: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the digest of some modules and the pinned versions of some, for a rule param."""
    return {"code": modules_digest(*code), "toolchain": pinned_toolchain(*tools)}


@cache
def environments_of(*modules: str) -> tuple[str, ...]:
    """The other locked environments that ``modules`` and their local imports work in, sorted.

    >>> environments_of("converters.npu_library"), environments_of("converters.openvino")
    (('npu-library',), ())
    """
    named = {_read(file).environment for file in module_files(*modules)}
    return tuple(sorted(name for name in named if name is not None))


def _literal(tree: ast.Module, constant: str) -> Any:
    """The literal that a file assigns to ``constant`` at its top; None: it does not."""
    for node in tree.body:
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == constant for target in targets):
            return ast.literal_eval(value)
    return None


@cache
def locked(lock: Path = LOCK) -> dict[str, LockedDistribution]:
    """Return everything that a lock file of this checkout pins, by normalised name."""
    return read_lock(ROOT / lock)
