"""Same inputs, same bytes: another folder, commit, home, locale, time zone, thread count."""

from pathlib import Path

import pytest
import yaml

from checkout import ROOT, Checkout, make_checkout

VARIANTS = list(yaml.safe_load((ROOT / "config/variants.yaml").read_text()))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Every variant built again, as another person would on another agent."""
    base = tmp_path_factory.mktemp("another place with a space")
    (base / "home").mkdir()
    checkout = make_checkout(
        base / "phi forge",
        message="another commit",
        environment={
            "HOME": str(base / "home"),
            "TZ": "Pacific/Auckland",
            "LC_ALL": "C",
            "PYTHONHASHSEED": "4711",
            "OMP_NUM_THREADS": "1",
            "USER": "someone-else",
        },
    )
    (checkout.folder / "README.md").open("a").write("\nanother commit\n")
    checkout.run(
        "git", "-c", "user.name=o", "-c", "user.email=o@example.invalid",
        "commit", "-q", "-a", "-m", "on top",
    )  # fmt: skip
    targets = [f"artifacts/build/phi3-tiny/{variant}/BUILD.json" for variant in VARIANTS]
    checkout.snakemake("--cores", "4", *targets)
    return checkout


@pytest.mark.parametrize("variant", VARIANTS)
def test_two_builds_give_identical_payloads(
    pipeline: Checkout, elsewhere: Checkout, variant: str
) -> None:
    def checksums(checkout: Checkout) -> str:
        folder: Path = checkout.folder / "artifacts/build/phi3-tiny" / variant / "payload"
        return (folder / "SHA256SUMS").read_text()

    assert checksums(pipeline) == checksums(elsewhere)
    assert pipeline.folder != elsewhere.folder
