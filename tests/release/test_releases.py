"""What `snakemake --cores 4 all` leaves for other teams."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from converters.onnx_genai import convert
from support.checkout import ROOT, Checkout, available_variants
from support.pickles import pickles_in

VARIANTS: dict[str, Any] = yaml.safe_load((ROOT / "config/variants.yaml").read_text())
DEVICES: dict[str, Any] = yaml.safe_load((ROOT / "config/devices.yaml").read_text())
MADE = available_variants()
REQUIRED_RECEIPT_KEYS = {
    "model",
    "variant",
    "device",
    "kind",
    "verdict",
    "reason",
    "artifact_sha256",
    "executed_on",
    "golden",
    "metrics",
    "toolchain",
}


def release_of(pipeline: Checkout, variant: str) -> Path:
    return pipeline.folder / "artifacts/release/phi3-tiny" / variant


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("variant", MADE)
def test_a_release_is_complete_and_its_checksums_hold(pipeline: Checkout, variant: str) -> None:
    release = release_of(pipeline, variant)
    for name in ("README.md", "LICENSE", "MANIFEST.json", "SHA256SUMS", "evidence/gate.json"):
        assert (release / name).is_file(), name
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=release, check=True)
    listed = {entry["path"] for entry in read(release / "MANIFEST.json")["files"]}
    present = {
        path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()
    }
    apart = {"README.md", "MANIFEST.json", "SHA256SUMS"}
    assert present - apart - {p for p in present if p.startswith("evidence/")} == listed


@pytest.mark.parametrize("variant", MADE)
def test_every_row_has_a_receipt_and_says_what_ran(pipeline: Checkout, variant: str) -> None:
    release = release_of(pipeline, variant)
    artifact = subprocess.run(
        ["sha256sum", "SHA256SUMS"], cwd=release, check=True, capture_output=True, text=True
    ).stdout.split()[0]
    for row in VARIANTS[variant]["devices"]:
        receipt = read(release / "evidence/receipts" / f"{row}.json")
        assert receipt.keys() >= REQUIRED_RECEIPT_KEYS
        assert receipt["artifact_sha256"] == artifact
        assert receipt["device"] == row
        assert receipt["kind"] == DEVICES[row]["kind"]
        if DEVICES[row]["detect"]:
            assert receipt["verdict"] == "blocked"
            assert receipt["reason"] and receipt["remedy"]
        else:
            assert receipt["verdict"] == "passed", receipt["reason"]
            assert receipt["executed_on"]["device"] == "CPU"
            ran = [answer for answer in receipt["golden"] if answer["not_run"] is None]
            assert len(ran) >= 12
            assert all(answer["passed"] for answer in ran)
            assert {"top1_agreement", "mean_kl", "max_kl", "perplexity_ratio"} <= set(
                receipt["metrics"]
            )


@pytest.mark.parametrize("variant", MADE)
def test_a_payload_holds_the_sources_own_tokenizer(pipeline: Checkout, variant: str) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        own = (ROOT / "models/phi3-tiny" / name).read_bytes()
        assert (release_of(pipeline, variant) / name).read_bytes() == own


def test_no_release_holds_a_pickle_or_this_machine(pipeline: Checkout) -> None:
    head = pipeline.run("git", "rev-parse", "HEAD").stdout.strip().encode()
    project = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, check=False
    ).stdout.strip()
    needles = [head, str(pipeline.folder).encode(), str(ROOT).encode()]
    needles += [project] if project else []
    releases = pipeline.folder / "artifacts/release"
    assert pickles_in(releases) == []
    for path in releases.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            for needle in needles:
                assert needle not in data, f"{needle!r} is in {path}"


def test_a_release_is_read_only_and_linked_not_copied(pipeline: Checkout) -> None:
    weights = release_of(pipeline, "openvino-fp16") / "openvino_model.bin"
    assert weights.stat().st_mode & 0o222 == 0
    assert weights.stat().st_nlink == 2


def test_the_card_says_what_it_is(pipeline: Checkout) -> None:
    card = (release_of(pipeline, "openvino-int4-npu") / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "mit"
    assert "**npu-standin** (standin): passed" in card
    assert "no receipt of npu has passed and is signed" in card
    assert "```python" in card


def test_the_run_ends_with_a_table_that_names_what_is_missing(pipeline: Checkout) -> None:
    output = (pipeline.folder / "artifacts/RUN.txt").read_text()
    for variant in VARIANTS:
        assert f" {variant} " in output
    assert "missing for stable" in output
    assert "npu: no Intel NPU here" in output
    assert "Traceback" not in output


def test_a_released_payload_still_serves_as_a_base(pipeline: Checkout, tmp_path: Path) -> None:
    """A release is hard links of the build; onnx-ir by itself refuses weights with two names."""
    builds = pipeline.folder / "artifacts/build/phi3-tiny"
    base, into = builds / "genai-dml-fp16/payload", tmp_path / "derived"
    assert (base / "model.onnx.data").stat().st_nlink > 1
    into.mkdir()
    source = pipeline.folder / "artifacts/source/phi3-tiny/files"
    options = {"precision": "int4", "execution_provider": "dml", "block_size": 32}
    convert(source, into, options=options, base=base)
    official = builds / "genai-dml-int4/payload/model.onnx.data"
    assert (into / "model.onnx.data").read_bytes() == official.read_bytes()
