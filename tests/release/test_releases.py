"""What `snakemake --cores 4 all` leaves for other teams."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from phiforge.artifact.tree import sha256_file
from support.checkout import ROOT, Checkout, available_variants
from support.jobs import SETTINGS
from support.pickles import pickles_in

VARIANTS: dict[str, Any] = yaml.safe_load((ROOT / "config/variants.yaml").read_text())
DEVICES: dict[str, Any] = yaml.safe_load((ROOT / "config/devices.yaml").read_text())
MADE = available_variants()


def read(path: Path) -> Any:
    return json.loads(path.read_text())


@pytest.mark.parametrize("variant", MADE)
def test_every_row_has_a_receipt_and_says_what_ran(pipeline: Checkout, variant: str) -> None:
    release = pipeline.release(variant)
    artifact = sha256_file(release / "SHA256SUMS")
    for row in VARIANTS[variant]["devices"]:
        receipt = read(release / "evidence/receipts" / f"{row}.json")
        assert receipt["artifact_sha256"] == artifact
        assert receipt["device"] == row
        assert receipt["kind"] == DEVICES[row]["kind"]
        detect = DEVICES[row]["detect"]
        if detect and not ("tool" in detect and SETTINGS.tools[detect["tool"]]):
            assert receipt["verdict"] == "blocked"
            assert receipt["reason"] and receipt["remedy"]
        elif DEVICES[row]["kind"] == "compiler":
            assert receipt["verdict"] == "compiled", receipt["reason"]
            assert f"npu-{receipt['compiled']['platform']}" in DEVICES[row]["stands_for"]
        else:
            assert receipt["verdict"] == "passed", receipt["reason"]
            assert receipt["executed_on"]["device"] == DEVICES[row]["executes"]
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
        assert (pipeline.release(variant) / name).read_bytes() == own


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
    weights = pipeline.release("openvino-fp16") / "openvino_model.bin"
    assert weights.stat().st_mode & 0o222 == 0
    assert weights.stat().st_nlink == 2


def test_the_card_says_what_it_is(pipeline: Checkout) -> None:
    card = (pipeline.release("openvino-int4-npu") / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "mit"
    assert "**npu-standin** (standin): passed" in card
    assert "no receipt of npu-3720, npu-4000, npu-5010 has passed and is signed" in card
    assert "```python" in card
    found = ModelCard(card).data
    assert (found.language, found.license_link, found.base_model) == (["en"], "LICENSE", None)
    fidelity = {one.metric_type: one.metric_value for one in found.eval_results}
    assert fidelity["top1_agreement"] > 0.9 and fidelity["tokens_per_s"] > 0
    picture = "evidence/speed.png"
    assert f"]({picture})" in card
    assert (pipeline.release("openvino-int4-npu") / picture).read_bytes()[:4] == b"\x89PNG"


def test_the_run_ends_with_a_table_that_names_what_is_missing(pipeline: Checkout) -> None:
    output = (pipeline.folder / "artifacts/RUN.txt").read_text()
    for variant in VARIANTS:
        assert f"\n{variant} " in output
    assert "For stable, each device must have passed" in output
    assert "npu-4000: no Intel NPU 4000 (Lunar Lake) here" in output
    assert "Traceback" not in output
