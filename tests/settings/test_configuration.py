"""A mistake in the configuration is one line: file, key, value, remedy."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from phiforge.settings.documents import SCHEMAS, ConfigurationError
from phiforge.settings.settings import Settings, load

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of config/ that a test may spoil."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    (tmp_path / "models").symlink_to(ROOT / "models")
    return tmp_path / "config"


def read(folder: Path, **overrides: Any) -> Settings:
    config = yaml.safe_load((folder / "config.yaml").read_text()) | overrides
    return load(config, folder)


def spoil(path: Path, change: Callable[[Any], None]) -> None:
    document = yaml.safe_load(path.read_text())
    change(document)
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def test_the_shipped_configuration_is_valid(folder: Path) -> None:
    settings = read(folder)
    assert settings.chosen_models == ("phi3-tiny",)
    assert {"phi-3-mini-4k", "phi-3-mini-128k", "phi-3.5-mini", "phi-4-mini"} < set(settings.models)


def test_models_and_variants_may_be_comma_separated_text(folder: Path) -> None:
    settings = read(folder, models="phi3-tiny, phi-3-mini-4k", variants="openvino-int4")
    assert settings.chosen_models == ("phi3-tiny", "phi-3-mini-4k")
    assert settings.chosen_variants == ("openvino-int4",)


def revision(value: str) -> Callable[[Any], None]:
    return lambda document: document["source"].update(revision=value)


MISTAKES: list[tuple[str, str, Callable[[Any], None], list[str]]] = [
    (
        "unknown key in a model",
        "models/phi-3-mini-4k.yaml",
        lambda d: d.update(licence="MIT"),
        ["phi-3-mini-4k.yaml", "licence", "'MIT'", "write 'license'"],
    ),
    (
        "branch instead of a commit",
        "models/phi-3-mini-4k.yaml",
        revision("main"),
        ["phi-3-mini-4k.yaml", "source.revision", "'main'", "40 hex digits"],
    ),
    (
        "39 hex digits",
        "models/phi-3-mini-4k.yaml",
        revision("f" * 39),
        ["source.revision", "40 hex digits"],
    ),
    (
        "missing key",
        "models/phi-3-mini-4k.yaml",
        lambda d: d.pop("golden"),
        ["phi-3-mini-4k.yaml", "'golden' is missing", "golden prompts"],
    ),
    (
        "golden file not there",
        "models/phi-3-mini-4k.yaml",
        lambda d: d.update(golden="../golden/nope.yaml"),
        ["phi-3-mini-4k.yaml", "golden", "nope.yaml"],
    ),
    (
        "model names an unknown variant",
        "models/phi-3-mini-4k.yaml",
        lambda d: d.update(variants=["openvino-int5"]),
        ["phi-3-mini-4k.yaml", "openvino-int5", "write 'openvino-int"],
    ),
    (
        "unknown option of a converter",
        "variants.yaml",
        lambda d: d["openvino-int4"]["options"].update(gruop_size=128),
        ["variants.yaml", "openvino-int4", "gruop_size", "128", "write 'group_size'"],
    ),
    (
        "unknown converter",
        "variants.yaml",
        lambda d: d["openvino-int4"].update(converter="opnvino"),
        ["variants.yaml", "opnvino", "write 'openvino'"],
    ),
    (
        "unknown device row",
        "variants.yaml",
        lambda d: d["openvino-int4"].update(devices=["cpu", "npuu"]),
        ["variants.yaml", "openvino-int4.devices", "npuu", "write 'npu'"],
    ),
    (
        "row that cannot run the format",
        "variants.yaml",
        lambda d: d["openvino-int4"].update(devices=["dml"]),
        ["variants.yaml", "openvino-int4.devices", "dml", "openvino"],
    ),
    (
        "from: an unknown variant",
        "variants.yaml",
        lambda d: d["openvino-int4"].update({"from": "openvino-fp15"}),
        ["variants.yaml", "openvino-int4.from", "write 'openvino-fp16'"],
    ),
    (
        "from: cycle",
        "variants.yaml",
        lambda d: d["openvino-fp16"].update({"from": "openvino-int4"}),
        ["variants.yaml", ".from", "cycle", "openvino-fp16 -> openvino-int4 -> openvino-fp16"],
    ),
    (
        "unknown snippet",
        "variants.yaml",
        lambda d: d["openvino-int4"].update(snippet="openvno"),
        ["variants.yaml", "openvino-int4.snippet", "write 'openvino'"],
    ),
    (
        "unknown kind of device",
        "devices.yaml",
        lambda d: d["npu"].update(kind="real"),
        ["devices.yaml", "npu.kind", "'real'", "device, standin"],
    ),
    (
        "stand-in for an unknown row",
        "devices.yaml",
        lambda d: d["npu-standin"].update(standin_for="mpu"),
        ["devices.yaml", "npu-standin.standin_for", "write 'npu'"],
    ),
]


@pytest.mark.parametrize(
    ("file", "change", "words"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES]
)
def test_a_mistake_is_named_in_one_line(
    folder: Path, file: str, change: Callable[[Any], None], words: list[str]
) -> None:
    spoil(folder / file, change)
    with pytest.raises(ConfigurationError) as caught:
        read(folder)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"modls": "phi3-tiny"}, ["config.yaml", "modls", "write 'models'"]),
        ({"models": "phi3-tny"}, ["models", "phi3-tny", "write 'phi3-tiny'"]),
        ({"variants": "openvino-int3"}, ["variants", "openvino-int3", "write 'openvino-int"]),
        ({"channel": "stabel"}, ["channel", "'stabel'", "candidate"]),
        ({"score_positions": "many"}, ["score_positions", "'many'", "integer"]),
        (
            {"publish": {"hub": {"repo": "acme/phi3"}}},
            ["publish.hub.repo", "'acme/phi3'", "{model}"],
        ),
        ({"publish": {"storge": []}}, ["publish.storge", "write 'storage'"]),
        ({"model_files": "/nowhere/model.yaml"}, ["/nowhere/model.yaml", "no such file"]),
    ],
)
def test_a_mistake_on_the_command_line_is_named(
    folder: Path, overrides: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(folder, **overrides)
    for word in words:
        assert word in str(caught.value)


def test_a_key_that_stands_twice_is_named_with_its_line(folder: Path) -> None:
    path = folder / "devices.yaml"
    path.write_text(path.read_text() + "\ncpu: {}\n")
    with pytest.raises(ConfigurationError, match=r"devices\.yaml:\d+: key 'cpu' stands twice"):
        read(folder)


def test_two_models_of_one_name_are_refused(folder: Path) -> None:
    shutil.copy(folder / "models/phi3-tiny.yaml", folder / "models/zz.yaml")
    with pytest.raises(ConfigurationError, match=r"zz\.yaml.*'phi3-tiny'.*phi3-tiny\.yaml"):
        read(folder)


def test_a_model_may_live_outside_and_its_paths_are_its_own(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "golden.yaml").write_text("prompts: []\n")
    (outside / "model.yaml").write_text(
        "name: outsider\ntitle: Outsider\nlicense: MIT\nparameters: 1000\n"
        "source: {path: weights, checksums: SHA256SUMS}\ngolden: golden.yaml\n"
    )
    settings = read(folder, models="outsider", model_files=str(outside / "model.yaml"))
    model = settings.models["outsider"]
    assert model.source["path"] == str(outside / "weights")
    assert model.golden == outside / "golden.yaml"


def descriptions_missing(
    schema: Any, path: str, described: frozenset[str] = frozenset()
) -> list[str]:
    """Keys without a description; a branch need not describe again what its parent does."""
    missing = []
    keys = {
        key: value
        for group in ("properties", "patternProperties")
        for key, value in schema.get(group, {}).items()
    }
    for key, value in keys.items():
        if "description" not in value and key not in described:
            missing.append(f"{path}.{key}")
        missing += descriptions_missing(value, f"{path}.{key}")
    for word in ("oneOf", "anyOf", "allOf"):
        for branch in schema.get(word, []):
            missing += descriptions_missing(branch, path, described | keys.keys())
    for word in ("then", "else"):
        if word in schema:
            missing += descriptions_missing(schema[word], path, described | keys.keys())
    if "items" in schema:
        missing += descriptions_missing(schema["items"], path)
    return missing


@pytest.mark.parametrize("path", sorted(SCHEMAS.rglob("*.json")), ids=lambda path: path.stem)
def test_every_key_of_every_schema_is_described(path: Path) -> None:
    schema = json.loads(path.read_text())
    assert descriptions_missing(schema, path.name) == []
    assert re.search(r'"additionalProperties": ?false', path.read_text()), "the schema is open"
