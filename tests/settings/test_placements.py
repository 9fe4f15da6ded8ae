"""A variant with measured forms follows the file beside its model, or is left out."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from phiforge.rules import Jobs
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.settings import load
from support.checkout import ROOT
from support.model_files import model_file

PLACED = "openvino-int4-placed"
TINY = ROOT / "config/placements/phi3-tiny.yaml"


class Names:
    model, variant, device = "phi3-tiny", PLACED, "cpu"


def jobs(folder: Path, **changes: Any) -> Jobs:
    """Plan phi3-tiny's weights under another name, with a placement of its own."""
    name = str(changes.pop("name", "my-tiny"))
    tiny = ROOT / "models/phi3-tiny"
    source = {"path": str(tiny), "checksums": "SHA256SUMS"}
    golden = str(tiny / "golden.yaml")
    file = model_file(folder, name, source=source, golden=golden, placement="p.yaml")
    if changes:
        document = yaml.safe_load(TINY.read_text(encoding="utf-8")) | changes
        (folder / "p.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    config = {"models": [name], "model_files": [str(file)], "variants": [PLACED, "openvino-int4"]}
    return Jobs(load(config, ROOT / "config"))


def test_the_converter_is_told_what_the_file_says() -> None:
    planned = Jobs(load({"models": ["phi3-tiny"], "variants": [PLACED]}, ROOT / "config"))
    options = planned.convert(Names()).recipe.options
    matrices = yaml.safe_load(TINY.read_text(encoding="utf-8"))["matrices"]
    place = yaml.safe_load(TINY.read_text(encoding="utf-8"))["bits"].index(5.67)
    parts = options["int4_matrices"]
    assert [(part["symmetric"], part["group_size"]) for part in parts] == [(True, 64), (False, 32)]
    for form, part in zip(("sym64", "asym32"), parts, strict=True):
        assert part["names"] == [
            name for name, one in matrices.items() if one["forms"][place] == form
        ]
    assert set(options) == {"weight_format", "int4_matrices"}
    assert planned.check(Names()).recipe.options == options


def test_without_the_file_the_variant_is_left_out_and_said_so(tmp_path: Path) -> None:
    planned = jobs(tmp_path)
    assert PLACED not in {variant for _, variant in planned.plan.builds}
    (note,) = planned.notes
    assert note.startswith(f"{PLACED} is left out for my-tiny")
    assert "snakemake placement --config models=my-tiny" in note


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "another"},
        {"model": "my-tiny", "bits": [4.44, 5.0]},
        {"model": "my-tiny", "bits": [5.67]},
    ],
    ids=["model", "bits", "choices"],
)
def test_a_placement_of_something_else_is_refused(tmp_path: Path, changes: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"or of other variants.*snakemake placement"):
        jobs(tmp_path, **changes)
