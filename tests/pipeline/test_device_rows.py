"""Devices that appear, move or send something: exactly their own jobs run again."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.checkout import Checkout, available_variants

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
NPU = {
    "check phi3-tiny openvino-int4-npu on npu",
    "check phi3-tiny openvino-int4-npu-cw on npu",
}


def npu_row(folder: Path, **ssh: Any) -> str:
    """A lab's file with an NPU behind ssh."""
    (folder / "id").write_text("a private key")
    host = {"host": "npu.lab", "user": "u", "host_key": HOST_KEY, "identity": "id", **ssh}
    runtime = {
        "module": "openvino_npu",
        "lock": "device-openvino",
        "settings": {"npuw_devices": "NPU"},
    }
    row = {
        "summary": "the lab's NPU",
        "kind": "device",
        "runner": "ssh",
        "executes": "NPU",
        "ssh": host,
        "runtimes": {"openvino": runtime},
    }
    path = folder / "lab.yaml"
    path.write_text(yaml.safe_dump({"npu": row}))
    return f"device_files={path}"


def checks(jobs: set[str]) -> set[str]:
    return {job for job in jobs if job.startswith("check")}


def test_a_lab_host_that_appears_reruns_its_own_checks(pipeline: Checkout, tmp_path: Path) -> None:
    jobs = pipeline.planned("all", "--config", npu_row(tmp_path))
    # The lab's row has no runtime for the library: its checks tell another reason for `blocked`.
    library = {variant for variant in available_variants() if variant.startswith("npu-library")}
    assert checks(jobs) == NPU | {f"check phi3-tiny {variant} on npu" for variant in library}
    assert not any(job.startswith(("fetch", "reference", "convert")) for job in jobs)


def test_a_mistake_in_a_lab_s_row_is_one_line(pipeline: Checkout, tmp_path: Path) -> None:
    option = npu_row(tmp_path, identity="absent")
    done = pipeline.snakemake("-n", "all", "--config", option, check=False)
    assert done.returncode != 0 and "Traceback" not in done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "absent" in line]
    assert line.startswith(f"error: {tmp_path / 'lab.yaml'}: key 'npu.ssh.identity' names")


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
        done = pipeline.snakemake("-n", "all", check=False)
        assert done.returncode != 0
        assert "error: artifacts/inbox/any-name.json: not a receipt" in done.stderr
    finally:
        brought.unlink()
        inbox.rmdir()
    assert pipeline.planned("all") == set()


@pytest.mark.parametrize("row", ["gpu", "npu"])
def test_a_kit_is_made_of_what_is_there(pipeline: Checkout, row: str) -> None:
    variant = {"gpu": "openvino-int4", "npu": "openvino-int4-npu"}[row]
    kit = f"artifacts/kits/phi3-tiny/{variant}/{row}.zip"
    assert pipeline.planned(kit) == {f"kit phi3-tiny {variant} for {row}"}
