"""What the tests of the validators share."""

import pytest

from support.checkout import Checkout
from validators.reference_tree import Reference, load_reference


@pytest.fixture(scope="session")
def reference(pipeline: Checkout) -> Reference:
    return load_reference(pipeline.folder / "artifacts/reference/phi3-tiny")
