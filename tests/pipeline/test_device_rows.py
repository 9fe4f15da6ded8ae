"""Devices that appear, move or send something: exactly their own jobs run again."""

import json
from pathlib import Path

import pytest

from support.checkout import Checkout, available_variants, receipts_of
from support.jobs import SETTINGS
from support.lab_row import lab_row

ROW = "npu-4000"


def checks(jobs: set[str]) -> set[str]:
    return {job for job in jobs if job.startswith("check")}


def test_a_lab_host_that_appears_reruns_its_own_checks(pipeline: Checkout, tmp_path: Path) -> None:
    jobs = pipeline.planned("all", "--config", f"device_files={lab_row(tmp_path)}")
    # The lab's row has no runtime for library and blob: their receipts tell another reason for
    # `blocked`, in the job that tells it of all blocked rows.
    here = {name for name in available_variants() if ROW in SETTINGS.variants[name].devices}
    assert {"openvino-int4-npu", "openvino-int4-npu-cw"} <= here
    written = {receipt for receipt in receipts_of(jobs) if receipt.endswith(f" on {ROW}")}
    assert written == {f"phi3-tiny {variant} on {ROW}" for variant in here}
    assert checks(jobs) == {
        f"check phi3-tiny {variant} on {ROW}"
        for variant in here
        if SETTINGS.variants[variant].format == "openvino"
    }
    assert not any(job.startswith(("fetch", "reference", "convert")) for job in jobs)


def test_what_a_courier_brings_reruns_its_own_check(pipeline: Checkout) -> None:
    inbox = pipeline.folder / "artifacts/inbox"
    inbox.mkdir()
    brought = inbox / "any-name.json"
    try:
        about = {"model": "phi3-tiny", "variant": "openvino-int4-npu", "device": ROW}
        brought.write_text(json.dumps(about))
        jobs = pipeline.planned("all")
        assert checks(jobs) == {f"check phi3-tiny openvino-int4-npu on {ROW}"}

        brought.write_text("not a receipt")
        done = pipeline.snakemake("-n", "all")
        assert "ignored: artifacts/inbox/any-name.json: not a receipt" in done.stdout + done.stderr
    finally:
        brought.unlink()
        inbox.rmdir()
    assert pipeline.planned("all") == set()


@pytest.mark.parametrize("row", ["gpu", ROW])
def test_a_kit_is_made_of_what_is_there(pipeline: Checkout, row: str) -> None:
    variant = {"gpu": "openvino-int4", ROW: "openvino-int4-npu"}[row]
    kit = f"artifacts/kits/phi3-tiny/{variant}/{row}.zip"
    assert pipeline.planned(kit) == {f"kit phi3-tiny {variant} for {row}"}
