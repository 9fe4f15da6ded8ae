"""What every test may use: the pipeline, run once as a user runs it."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from phiforge.artifact.file_lock import file_lock
from support.bench import Bench, make_bench
from support.checkout import Checkout, make_checkout
from support.publishing_runs import Publisher
from support.releasing import (
    SIGNED_VARIANT,
    Certified,
    Verifier,
    copy_release,
    make_certified,
    minimal_environment,
    stage,
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-payload-sha256",
        action="store_true",
        help="write the digests of this session's payloads into tests/pipeline/payload-sha256.txt",
    )


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A clean checkout in which `snakemake --cores 4 all` has ended well.

    With several workers (`make test`) the first that asks runs the pipeline, and each has a copy.

    PHIFORGE_TEST_PIPELINE names a folder that is kept from one session to the next, so that only
    what a change affects is built again; for development, not for a change that is to land.
    """
    kept = os.environ.get("PHIFORGE_TEST_PIPELINE")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return run_pipeline(
            Path(kept) if kept else tmp_path_factory.mktemp("pipeline") / "phiforge"
        )
    session = tmp_path_factory.getbasetemp().parent
    original = Path(kept) if kept else session / "pipeline"
    finished = session / "pipeline.finished"
    with file_lock(session / "pipeline.lock"):
        if not finished.exists():
            run_pipeline(original)
            finished.touch()
    folder = tmp_path_factory.mktemp("pipeline") / "phiforge"
    subprocess.run(["cp", "-a", original, folder], check=True)  # keeps times and hard links
    return Checkout(folder)


def run_pipeline(folder: Path) -> Checkout:
    """Run `snakemake --cores 4 all` in a checkout at ``folder``; its output goes to RUN.txt."""
    checkout = make_checkout(folder, with_directml=True)
    done = checkout.snakemake("--cores", "4", "all")
    (checkout.folder / "artifacts" / "RUN.txt").write_text(done.stdout + done.stderr)
    return checkout


@pytest.fixture(scope="session")
def built(pipeline: Checkout) -> Callable[[str], Path]:
    """Variant name to the payload that the pipeline built of phi3-tiny."""
    return lambda variant: pipeline.folder / "artifacts/build/phi3-tiny" / variant / "payload"


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The source, asked three golden prompts, and the command that checks an artifact."""
    return make_bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="session")
def verifier(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    """The one-file verifier in an environment that has ``cryptography`` only."""
    received = tmp_path_factory.mktemp("received") / "phiforge-verify.pyz"
    pipeline.snakemake("--cores", "1", "artifacts/phiforge-verify.pyz")
    shutil.copyfile(pipeline.folder / "artifacts/phiforge-verify.pyz", received)
    return Verifier(minimal_environment(tmp_path_factory.mktemp("minimal")), received)


@pytest.fixture(scope="session")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """A release key with a certificate."""
    return make_certified(tmp_path_factory.mktemp("certified"))


@pytest.fixture(scope="session")
def signed(
    pipeline: Checkout, certified: Certified, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A release that the certified key signed."""
    into = tmp_path_factory.mktemp("signed") / "phi3-tiny" / SIGNED_VARIANT
    stage(pipeline, SIGNED_VARIANT, into, signing=certified.signing())
    return into


@pytest.fixture
def received(signed: Path, tmp_path: Path) -> Path:
    """A copy of that release, as someone received it; a test may change it."""
    return copy_release(signed, tmp_path / SIGNED_VARIANT)


@pytest.fixture(scope="session")
def versions(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Version to a release of that version, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("versions")

    def version(number: str) -> Path:
        into = folder / number / "phi3-tiny" / SIGNED_VARIANT
        if not into.is_dir():
            stage(pipeline, SIGNED_VARIANT, into, version=number)
        return into

    return version


@pytest.fixture(scope="module")
def copy(pipeline: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished pipeline again, for a test that runs jobs in it."""
    folder = tmp_path_factory.mktemp("copy") / "phiforge"
    shutil.copytree(pipeline.folder, folder, symlinks=True)
    return Checkout(folder, pipeline.environment)


@pytest.fixture
def publisher(pipeline: Checkout, versions: Callable[[str], Path], tmp_path: Path) -> Publisher:
    """The publishing command, with nothing to publish yet and nowhere to publish to."""
    return Publisher(
        pipeline,
        versions,
        tmp_path / "artifacts",
        {"channel": "candidate"},
        {"HOME": str(tmp_path / "home"), "PHIFORGE_RETRY_SECONDS": "0.01"},
    )
