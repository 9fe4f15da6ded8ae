"""Devices that appear, move or send something: exactly their own jobs run again."""

import json
from pathlib import Path

import pytest

from support.checkout import Checkout, available_variants
from support.lab_row import lab_row

NPU = {
    "check phi3-tiny openvino-int4-npu on npu",
    "check phi3-tiny openvino-int4-npu-cw on npu",
}


def checks(jobs: set[str]) -> set[str]:
    return {job for job in jobs if job.startswith("check")}


def test_a_lab_host_that_appears_reruns_its_own_checks(pipeline: Checkout, tmp_path: Path) -> None:
    jobs = pipeline.planned("all", "--config", f"device_files={lab_row(tmp_path)}")
    # The lab's row has no runtime for the library: its checks tell another reason for `blocked`.
    library = {variant for variant in available_variants() if variant.startswith("npu-library")}
    assert checks(jobs) == NPU | {f"check phi3-tiny {variant} on npu" for variant in library}
    assert not any(job.startswith(("fetch", "reference", "convert")) for job in jobs)


def test_what_a_courier_brings_reruns_its_own_check(pipeline: Checkout) -> None:
    inbox = pipeline.folder / "artifacts/inbox"
    inbox.mkdir()
    brought = inbox / "any-name.json"
    try:
        about = {"model": "phi3-tiny", "variant": "openvino-int4-npu", "device": "npu"}
        brought.write_text(json.dumps(about))
        jobs = pipeline.planned("all")
        assert checks(jobs) == {"check phi3-tiny openvino-int4-npu on npu"}

        brought.write_text("not a receipt")
        done = pipeline.snakemake("-n", "all")
        assert "ignored: artifacts/inbox/any-name.json: not a receipt" in done.stdout + done.stderr
    finally:
        brought.unlink()
        inbox.rmdir()
    assert pipeline.planned("all") == set()


@pytest.mark.parametrize("row", ["gpu", "npu"])
def test_a_kit_is_made_of_what_is_there(pipeline: Checkout, row: str) -> None:
    variant = {"gpu": "openvino-int4", "npu": "openvino-int4-npu"}[row]
    kit = f"artifacts/kits/phi3-tiny/{variant}/{row}.zip"
    assert pipeline.planned(kit) == {f"kit phi3-tiny {variant} for {row}"}
