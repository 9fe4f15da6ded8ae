"""docs/devices.md's walk: one row, one module, and the device checks an artifact."""

import re
import shutil
from pathlib import Path

import pytest

from phiforge.artifact.record import read_record
from support.checkout import ROOT, Checkout

RECEIPT = "artifacts/checks/phi3-tiny/openvino-int4/cpu-first.json"


@pytest.fixture
def copy(pipeline: Checkout, tmp_path: Path) -> Checkout:
    folder = tmp_path / "phiforge"
    shutil.copytree(pipeline.folder, folder, symlinks=True)
    return Checkout(folder, pipeline.environment)


def steps() -> dict[str, str]:
    """File name to text, of the page's blocks that begin with ``# walk: FILE``."""
    page = (ROOT / "docs/devices.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w+\n# walk: (\S+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return dict(blocks)


def test_the_walk_adds_a_device_with_a_runtime_of_its_own(copy: Checkout) -> None:
    walk = steps()
    assert set(walk) == {
        "config/devices.yaml",
        "config/variants.yaml",
        "validators/runtimes/openvino_first.py",
    }
    rows = copy.folder / "config/devices.yaml"
    rows.write_text(rows.read_text() + "\n" + walk["config/devices.yaml"])
    module = copy.folder / "validators/runtimes/openvino_first.py"
    module.write_text(walk["validators/runtimes/openvino_first.py"])
    variants = copy.folder / "config/variants.yaml"
    head, block = variants.read_text().split("\nopenvino-int4:\n", 1)
    block = re.sub(r"devices: .*", walk["config/variants.yaml"].strip(), block, count=1)
    variants.write_text(f"{head}\nopenvino-int4:\n{block}")

    assert copy.planned("all") == {
        "check phi3-tiny openvino-int4 on cpu-first",
        "gate phi3-tiny openvino-int4 for candidate",
        "release phi3-tiny openvino-int4",
        "index phi3-tiny",
    }
    copy.snakemake("--cores", "2", RECEIPT)
    told = read_record(copy.folder / RECEIPT)
    assert (told["verdict"], told["runtime"]) == ("passed", "openvino_first")
    assert told["executed_on"]["device"] == "CPU"
