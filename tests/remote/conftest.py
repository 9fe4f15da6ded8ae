"""A lab host, its key, and checks that it does."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from phiforge.trust.keys import new_key
from support.checkout import Checkout
from support.lab_bench import Bench
from support.lab_host import LabServer, lab_server


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
