"""What several tests of real artifacts share."""

import pytest

from support.bench import Bench, make_bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The source, asked three golden prompts, and the command that checks an artifact."""
    return make_bench(tmp_path_factory.mktemp("bench"))
