"""Agents and what they share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agents import Agent, MakeAgent, Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def make(shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeAgent]:
    """An agent by its name, which believes others."""
    monkeypatch.chdir(tmp_path)

    def agent(name: str, *believes: Agent, **changes: Any) -> Agent:
        (tmp_path / name).mkdir()
        trusted = [one.public for one in believes]
        storage = changes.pop("storage", shelf.configured)
        return Agent(tmp_path / name, storage, monkeypatch, trusted, **changes)

    return agent
