"""What every test may use: the pipeline, run once as a user runs it."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from checkout import Checkout, make_checkout


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A clean checkout in which `snakemake --cores 4 all` has ended well."""
    checkout = make_checkout(tmp_path_factory.mktemp("pipeline") / "phiforge")
    done = checkout.snakemake("--cores", "4", "all")
    (checkout.folder / "artifacts" / "RUN.txt").write_text(done.stdout + done.stderr)
    return checkout


@pytest.fixture(scope="session")
def built(pipeline: Checkout) -> Callable[[str], Path]:
    """Variant name to the payload that the pipeline built of phi3-tiny."""
    return lambda variant: pipeline.folder / "artifacts/build/phi3-tiny" / variant / "payload"
