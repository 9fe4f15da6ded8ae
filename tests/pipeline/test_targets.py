"""Every target rule through Snakemake itself, configured by a file and by ``--config``."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from support.checkout import Checkout
from support.jobs import SETTINGS

VARIANT = "genai-cpu-int4"
KITS = [
    f"artifacts/kits/phi3-tiny/{variant.name}/{row}.zip"
    for variant in SETTINGS.variants.values()
    for row in variant.devices
    if variant.requires is None
    and any(runtime.lock for runtime in SETTINGS.devices[row].runtimes.values())
]
# Target, what it prints beside 'chosen', and whether it ends with 0 on a machine without a device.
TARGETS: list[tuple[str, Sequence[str], bool]] = [
    ("all", [f"{VARIANT} ", "cpu passed"], True),
    ("receipts", [f"{VARIANT} ", "cpu passed"], True),
    ("stable", [f"phi3-tiny {VARIANT}: cpu is missing: ", "To get it: "], False),
    ("reproduce", [f"phi3-tiny {VARIANT}: identical ("], True),
    ("publish", [f"phi3-tiny/{VARIANT} 0.1.0 "], True),
    (f"artifacts/kits/phi3-tiny/{VARIANT}/cpu.zip", [], True),
]


def config(tmp_path: Path, way: str, **chosen: object) -> list[str]:
    """These keys as options of Snakemake."""
    if way == "--config":
        return [way, *(f"{key}={yaml.safe_dump(value, default_flow_style=True, width=1000).strip()}"
                       for key, value in chosen.items())]  # fmt: skip
    file = tmp_path / "lab.yaml"
    file.write_text(yaml.safe_dump(chosen))
    return [way, str(file)]


@pytest.mark.parametrize("way", ["--configfile", "--config"])
@pytest.mark.parametrize(("target", "printed", "ends_well"), TARGETS, ids=[t[0] for t in TARGETS])
def test_a_target_takes_its_configuration(
    copy: Checkout,
    tmp_path: Path,
    way: str,
    target: str,
    printed: Sequence[str],
    ends_well: bool,
) -> None:
    publish = {"channel": "candidate", "storage": [{"url": str(copy.folder / "published")}]}
    options = config(tmp_path, way, variants=[VARIANT], kit_payload=False, publish=publish)
    done = copy.snakemake("--cores", "2", target, *options, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == ends_well, output
    for text in printed:
        assert text in output
    others = {name for name in SETTINGS.variants if f"{name} " in output} - {VARIANT}
    assert not others, "what was not chosen was looked at"


def test_every_kit_is_packed(copy: Checkout) -> None:
    copy.snakemake("--cores", "2", *KITS, "--config", "kit_payload=false")
    assert all((copy.folder / kit).is_file() for kit in KITS)


def test_what_can_be_asked_for_is_described(copy: Checkout) -> None:
    """`snakemake --list`; a rule without a docstring is a line of its name only."""
    lines = copy.snakemake("--list").stdout.splitlines()
    rules = [line for line in lines if line and not line.startswith(" ")]
    assert {"all", "publish", "receipts", "reproduce", "stable"} <= {r.split()[0] for r in rules}
    assert [rule for rule in rules if " (" not in rule] == []
