"""A mistake in the configuration is one line: file, key, value, remedy."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from phiforge.settings.documents import ConfigurationError
from phiforge.settings.settings import Settings, load
from support.checkout import ROOT
from support.model_files import model_file

MODEL = "models/phi-3-mini-4k.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of config/ that a test may change."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path / "config"


def read(folder: Path, **overrides: Any) -> Settings:
    config = yaml.safe_load((folder / "config.yaml").read_text()) | overrides
    return load(config, folder)


def change(path: Path, keys: str, value: object) -> None:
    """Set the key that ``keys`` leads to, its steps apart by '/'; None: take it out."""
    document = yaml.safe_load(path.read_text())
    *steps, last = keys.split("/")
    block = document
    for step in steps:
        block = block[step]
    block[last] = value
    if value is None:
        del block[last]
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_the_shipped_configuration_is_valid(folder: Path) -> None:
    settings = read(folder)
    assert settings.chosen_models == ("phi3-tiny",)
    assert settings.chosen_variants == tuple(settings.variants)
    assert {"phi-3-mini-4k", "phi-3-mini-128k", "phi-3.5-mini", "phi-4-mini"} < set(settings.models)


def test_models_and_variants_may_be_comma_separated_text(folder: Path) -> None:
    settings = read(folder, models="phi3-tiny, phi-3-mini-4k", variants="openvino-int4")
    assert settings.chosen_models == ("phi3-tiny", "phi-3-mini-4k")
    assert settings.chosen_variants == ("openvino-int4",)


def test_what_snakemake_reads_as_text_is_the_number_or_boolean(folder: Path) -> None:
    hub = {"repo": "acme/{model}-{variant}", "private": "false"}
    settings = read(folder, kit_payload="false", publish={"keep": "3", "hub": hub})
    assert (settings.kit_payload, settings.publish.keep) == (False, 3)
    assert settings.publish.hub is not None and settings.publish.hub.private is False


@pytest.mark.parametrize(
    ("file", "keys", "value", "line"),
    [
        (MODEL, "source/pth", "x", "unknown key 'source.pth' (value 'x'). Remedy: known are: repo"),
        (MODEL, "source/sha256", {"a": "b"}, "key 'source.sha256.a' has a value"),
        (MODEL, "golden", None, "key 'golden' is missing. Remedy: add it: file with the golden"),
        (MODEL, "parameters", True, "expected integer, at least 1, found True"),
        (MODEL, "acceptance", {"int4": {"mean_kl": 9}}, "unknown key 'acceptance'"),
        (MODEL, "variants", ["openvino-int5"], "names 'openvino-int5', which is not configured. R"),
        (MODEL, "variants", [], "expected list, not empty, or null, found []"),
        (
            "variants.yaml",
            "openvino-int4/converter",
            "opnvino",
            "key 'openvino-int4.converter' names 'opnvino', which is not a converter. Remedy: "
            "write 'openvino'",
        ),
        ("variants.yaml", "openvino-int4/devices", ["cpu", "npuu"], "names 'npuu', which is not a"),
        ("variants.yaml", "openvino-int4/devices", ["cpu", "cpu"], "names 'cpu' twice. Remedy: ke"),
        ("variants.yaml", "openvino-int4/devices", ["dml"], "'dml', which has no runtime for 'ope"),
        ("variants.yaml", "openvino-int4/from", "openvino-fp15", "Remedy: write 'openvino-fp16'"),
        (
            "variants.yaml",
            "openvino-fp16/from",
            "openvino-int4",
            "cycle (openvino-fp16 -> openvino-int4 -> openvino-fp16)",
        ),
        ("variants.yaml", "openvino-int4/snippet", "openvno", "Remedy: write 'openvino'; known a"),
        (
            "variants.yaml",
            "openvino-int4/name",
            "x",
            "unknown key 'openvino-int4.name' (value 'x'",
        ),
        ("variants.yaml", "openvino-int4/requires", {"remedy": "r"}, "requires' requires nothing."),
        (
            "variants.yaml",
            "openvino-int4/requires",
            {"tool": "npu_compilre", "remedy": "r"},
            "expected npu_compiler, or null, found 'npu_compilre'",
        ),
        (
            "variants.yaml",
            "OpenVINO",
            {},
            "key 'OpenVINO' has a value that is not allowed; expected a name",
        ),
        ("devices.yaml", "gpu/kind", "real", "expected one of device, standin, compiler, found"),
        (
            "devices.yaml",
            "npu-standin/stands_for",
            ["npu-400"],
            "not a device row. Remedy: write 'npu-4000'",
        ),
    ],
)
def test_a_mistake_is_named_in_one_line(
    folder: Path, file: str, keys: str, value: object, line: str
) -> None:
    change(folder / file, keys, value)
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    place, _, said = str(caught.value).removeprefix(f"{folder / file}:").partition(" ")
    assert line in said
    if value is not None:  # what was taken out has no line
        told = (folder / file).read_text().splitlines()[int(place.rstrip(":")) - 1]
        key = said.split("key '")[1].split("'")[0]
        assert told.lstrip("- ").split(":")[0] == key.rpartition(".")[2]


@pytest.mark.parametrize(
    ("key", "value", "line"),
    [
        ("models", "phi3-tny", "key 'models' names 'phi3-tny', which is not configured. Remedy: w"),
        ("kit_payload", "perhaps", "expected boolean, found 'perhaps'"),
        ("publish", {"hub": {"repo": "acme/phi3"}}, "'publish.hub.repo' is not a repository for"),
        ("publish", {"hub": {"repo": "../{model}-{variant}"}}, "found '../{model}-{variant}'"),
        ("signing", {"kye": "x"}, "unknown key 'signing.kye' (value 'x'). Remedy: write 'key'"),
    ],
)
def test_a_mistake_on_the_command_line_is_named(
    folder: Path, key: str, value: object, line: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, **{key: value})
    assert re.match(rf"{folder}/config\.yaml(:\d+)? or --config: ", str(caught.value))
    assert line in str(caught.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- cpu\n", ": not a mapping; expected key: value lines, found list"),
        (
            "cpu: device\n",
            ": key 'cpu' has a value that is not allowed; expected mapping, found 'devi",
        ),
    ],
)
def test_a_file_that_is_no_mapping_of_blocks_is_refused(folder: Path, text: str, line: str) -> None:
    path = folder / "devices.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    assert str(caught.value).startswith(str(path))
    assert line in str(caught.value)


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    shutil.copy(folder / "models/phi3-tiny.yaml", folder / "models/zz.yaml")
    with pytest.raises(ConfigurationError, match=r"zz\.yaml.*'phi3-tiny'.*phi3-tiny\.yaml"):
        read(folder)


def test_a_model_may_live_outside_and_its_paths_are_its_own(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "golden.yaml").write_text("prompts: []\n")
    file = model_file(outside, "outsider")
    settings = read(folder, models="outsider", model_files=str(file))
    model = settings.models["outsider"]
    assert model.source.plain() == {"path": str(outside / "weights"), "checksums": "SHA256SUMS"}
    assert model.golden == outside / "golden.yaml"


def test_model_files_are_folders_and_patterns_too(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "models[1]"
    for name in ("acme-one", "acme-two", "other"):
        (outside / name).mkdir(parents=True)
        (outside / name / "golden.yaml").write_text("prompts: []\n")
        shutil.copy(model_file(outside / name, name), outside / f"{name}.yaml")
        (outside / f"{name}.yaml").write_text(
            (outside / f"{name}.yaml").read_text().replace("golden.yaml", f"{name}/golden.yaml")
        )
    acme = ("acme-one", "acme-two")
    pattern = f"{tmp_path}/models?1]/acme-*/model.yaml"
    assert read(folder, models="acme-*", model_files=str(outside)).chosen_models == acme
    assert read(folder, models="*two,acme-*", model_files=pattern).chosen_models == acme[::-1]
    both = read(folder, models=["phi3-tiny", "acme-one"], model_files=pattern)
    assert both.chosen_models == ("phi3-tiny", "acme-one")
    assert "other" not in both.models
