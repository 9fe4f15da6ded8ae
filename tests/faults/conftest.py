"""The fetch command and a Hub for it to ask; devices that are elsewhere."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from checkout import Checkout
from fetching import SHARDS, TOKEN, Fetch, Published, make_checkpoint
from hub_server import HubServer
from lab_bench import Bench
from lab_host import LabServer, lab_server
from phiforge.trust.keys import new_key


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
def published(hub: HubServer) -> Published:
    """The checkpoint on the Hub, its shards in LFS storage."""
    return Published(hub.add(make_checkpoint(), lfs=SHARDS))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabServer]:
    """A running sshd."""
    with lab_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A device's key pair: private, public."""
    folder = tmp_path_factory.mktemp("keys")
    new_key(folder / "device.pem", folder / "device.pub")
    return folder / "device.pem", folder / "device.pub"


@pytest.fixture
def bench(pipeline: Checkout, keys: tuple[Path, Path], tmp_path: Path) -> Bench:
    """Without a lab host."""
    return Bench(pipeline, tmp_path, *keys)


@pytest.fixture
def lab(bench: Bench, server: LabServer) -> Bench:
    """With one."""
    return replace(bench, server=server)


@pytest.fixture(scope="module")
def copy(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished pipeline again, for a test that runs jobs in it."""
    folder = tmp_path_factory.mktemp("copy") / "phiforge"
    shutil.copytree(pipeline.folder, folder, symlinks=True)
    return Checkout(folder, pipeline.environment)
