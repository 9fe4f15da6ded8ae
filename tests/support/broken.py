"""Broken artifacts: built ones, edited and sealed again so that checksums do not tell."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.sabotage import Sabotage, sabotaged
from support.bench import reseal

Edit = Callable[[Path], None]
"""Breaks a payload in place."""


Built = Callable[[str], Path]


@dataclass(frozen=True)
class Broken:
    """A broken artifact, offered as ``variant``; ``make`` writes its payload."""

    variant: str
    make: Callable[[Built, Path], object]

    def made(self, built: Built, into: Path) -> Path:
        """The folder of its build."""
        self.make(built, into / "build/payload")
        return into / "build"


def weights(variant: str, sabotage: Sabotage) -> Broken:
    return Broken(variant, lambda built, payload: sabotaged(built(variant), payload, sabotage))


def files(variant: str, edit: Edit, of: str | None = None) -> Broken:
    """``edit`` of what was built as ``of``."""

    def make(built: Built, payload: Path) -> None:
        shutil.copytree(built(of or variant), payload, copy_function=shutil.copyfile)
        edit(payload)
        reseal(payload)

    return Broken(variant, make)


def nothing(payload: Path) -> None:
    pass


def replaced(name: str, old: str, new: str) -> Edit:
    """One text of a payload's file becomes another."""

    def edit(payload: Path) -> None:
        text = (payload / name).read_text(encoding="utf-8")
        assert old in text
        (payload / name).write_text(text.replace(old, new), encoding="utf-8")

    return edit
