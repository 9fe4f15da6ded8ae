"""The fetch command, and a Hub for it to ask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.fetching import TOKEN, Fetch, HubModel, make_checkpoint
from support.hub_server import HubServer


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    """The command with an environment of its own and no Hub to ask."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    environment = {
        **kept,
        "HOME": str(tmp_path / "home"),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DOWNLOAD_TIMEOUT": "5",
        "PHIFORGE_RETRY_SECONDS": "0.01",
    }
    return Fetch(tmp_path / "source" / "phi", environment)


@pytest.fixture
def hub(fetch: Fetch) -> Iterator[HubServer]:
    """A Hub on loopback, which ``fetch`` asks."""
    with HubServer() as server:
        fetch.environment["HF_ENDPOINT"] = server.address
        yield server


@pytest.fixture
def model(hub: HubServer, fetch: Fetch) -> HubModel:
    """The checkpoint on the Hub, its shards in LFS storage."""
    return HubModel.publish(hub, fetch, make_checkpoint())
