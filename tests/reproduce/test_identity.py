"""Same inputs, same bytes: `snakemake reproduce` proves it, and catches a planted difference."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.checkout import Checkout, available_variants, make_checkout
from support.releasing import SIGNED_VARIANT, Certified, Verifier

PLANTED = """
def convert(source, into, *, options, base=None):
    import os

    record = _convert(source, into, options=options, base=base)
    path = into / "openvino_model.bin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= os.environ.get("TZ") == "Pacific/Auckland"
    path.write_bytes(content)
    return record
"""


@pytest.fixture(scope="module")
def records(pipeline: Checkout) -> Callable[[str], dict[str, object]]:
    """Every variant built again under other circumstances, as a user would."""
    pipeline.snakemake("--cores", "4", "reproduce")
    folder = pipeline.folder / "artifacts/reproduced/phi3-tiny"
    return lambda variant: dict(json.loads((folder / f"{variant}.json").read_text()))


@pytest.mark.parametrize("variant", available_variants())
def test_two_builds_give_identical_payloads(
    records: Callable[[str], dict[str, object]], variant: str
) -> None:
    record = records(variant)
    assert record["verdict"] == "identical"
    assert record["artifact_sha256"] == record["rebuilt_sha256"]


def test_a_planted_difference_is_caught_down_to_the_tensor(
    pipeline: Checkout, tmp_path: Path
) -> None:
    """The converter looks at the time zone: one bit of one weight follows it."""
    checkout = make_checkout(tmp_path / "planted")
    converter = checkout.folder / "converters/openvino/__init__.py"
    converter.write_text(converter.read_text().replace("def convert(", "def _convert(") + PLANTED)
    failed = checkout.snakemake(
        "--cores", "4", "reproduce", "--config", "variants=openvino-fp16", check=False
    )
    assert failed.returncode != 0
    output = " ".join((failed.stdout + failed.stderr).split())
    assert (
        "1 of 1 were not reproduced: phi3-tiny openvino-fp16 (first: openvino_model.xml" in output
    )
    record = json.loads(
        (checkout.folder / "artifacts/reproduced/phi3-tiny/openvino-fp16.json").read_text()
    )
    assert record["differing_files"] == ["MANIFEST.json", "openvino_model.bin"]
    assert record["differing_tensors_count"] == 1


def test_what_was_reproduced_joins_the_evidence_of_a_release_with_a_key(
    records: Callable[[str], dict[str, object]],
    pipeline: Checkout,
    certified: Certified,
    received: Path,
    verifier: Verifier,
    tmp_path: Path,
) -> None:
    assert records(SIGNED_VARIANT)["verdict"] == "identical"
    record = pipeline.folder / "artifacts/reproduced/phi3-tiny" / f"{SIGNED_VARIANT}.json"
    release = tmp_path / "release/phi3-tiny" / SIGNED_VARIANT
    release.parent.mkdir(parents=True)
    received.rename(release)
    require = [sys.executable, "-m", "phiforge", "reproduce", str(record)]
    require += ["--releases", str(tmp_path / "release")]
    signing = json.dumps(certified.signing())

    assert "its release key is not here" in pipeline.run(*require).stdout
    assert "in the release's evidence" in pipeline.run(*require, PHIFORGE_SIGNING=signing).stdout
    statement = release / "evidence/reproduce.dsse.json"
    trusted = ("--ca", str(certified.authority), "--subject", certified.subject)
    assert verifier.findings(release, *trusted) == []

    other = json.loads(statement.read_text())
    other["payload"] = other["payload"][:-8] + "AAAAAAA="
    statement.write_text(json.dumps(other))
    assert verifier.findings(release, *trusted)
