"""A device, a variant and a converter are added by the blocks of their pages, and nothing else."""

import re

from phiforge.artifact.record import read_record
from support.checkout import Checkout
from support.pages import add, shown_files

MODEL = "phi3-tiny"


def built_jobs(variant: str, *rows: str) -> set[str]:
    """The jobs from the checks of a variant to its release."""
    return {
        *(f"check {MODEL} {variant} on {row}" for row in rows),
        f"gate {MODEL} {variant} for candidate",
        f"release {MODEL} {variant}",
        f"index {MODEL}",
    }


def test_the_page_adds_a_device_with_a_runtime_of_its_own(copy: Checkout) -> None:
    *files, (name, devices) = shown_files("devices.md")
    for file in files:
        add(copy.folder, *file)
    variants = copy.folder / name
    head, block = variants.read_text().split("\nopenvino-int4:\n", 1)
    block = re.sub(r"devices: .*", devices.strip(), block, count=1)
    variants.write_text(f"{head}\nopenvino-int4:\n{block}")

    assert copy.planned("all") == built_jobs("openvino-int4", "cpu-first")
    copy.snakemake("--cores", "2", "all")
    receipt = read_record(copy.folder / f"artifacts/checks/{MODEL}/openvino-int4/cpu-first.json")
    assert (receipt["verdict"], receipt["runtime"]) == ("passed", "openvino_first")
    assert receipt["executed_on"]["device"] == "CPU"


def test_the_page_adds_a_variant_and_a_converter(copy: Checkout) -> None:
    _, _, *files = shown_files("adding.md")
    planned = set()
    for name, text in files:
        add(copy.folder, name, text)
        if name == "config/variants.yaml":
            variant = text.split(":", 1)[0]
            planned |= built_jobs(variant, "cpu") | {f"convert {MODEL} to {variant}"}
            assert copy.planned("all") == planned
    copy.snakemake("--cores", "2", "all")
    for variant in ("openvino-int4-g64", "openvino-fp16-kv8"):
        release = copy.folder / "artifacts/release" / MODEL / variant
        assert read_record(release / "MANIFEST.json")["variant"] == variant
