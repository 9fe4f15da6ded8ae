"""A small release, whose key a reader knows."""

from pathlib import Path

import pytest

from phiforge.release.signing import ReleaseKey, release_key
from phiforge.verify.trust import Trust
from support.releasing import Certified, copy_release
from support.small_release import SmallVariant


@pytest.fixture(scope="session")
def variant(tmp_path_factory: pytest.TempPathFactory) -> SmallVariant:
    made = SmallVariant(tmp_path_factory.mktemp("small") / "variant")
    made.gate()
    return made


@pytest.fixture(scope="session")
def key(certified: Certified) -> ReleaseKey:
    return release_key(certified.signing())


@pytest.fixture(scope="session")
def original(variant: SmallVariant, key: ReleaseKey) -> Path:
    return variant.release(key)


@pytest.fixture
def release(original: Path, tmp_path: Path) -> Path:
    """A copy of a release, as someone received it."""
    return copy_release(original, tmp_path / "received" / original.name)


@pytest.fixture
def trust(key: ReleaseKey) -> Trust:
    return Trust((key.signer.public_key,))
