"""What the configuration files say, as frozen values with every reference resolved."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phiforge.settings.devices import Device, load_devices
from phiforge.settings.documents import (
    SCHEMAS,
    ConfigurationError,
    beside,
    did_you_mean,
    read_yaml,
    validate,
)
from phiforge.settings.npu_compiler import read_npu_compiler

CONFIG = Path("config")
SNIPPETS = Path("phiforge/release/snippets")
_LISTS = ("models", "variants", "model_files", "device_files")


@dataclass(frozen=True)
class Model:
    """One file of ``config/models/`` or of ``model_files``.

    Attributes:
        source: ``{repo, revision[, sha256]}`` or ``{path, checksums}``, the path resolved.
        parameters: number of weights; memory estimates follow from it.
        golden: the golden prompts' file.
        minimum_validated_tokens: the longest sequence that a check ran must have so many.
        synthetic: random weights; converted and scored, never released.
        version: of its releases; None: the run's.
    """

    name: str
    title: str
    license: str
    parameters: int
    source: Mapping[str, Any]
    golden: Path
    check_tokens: int
    minimum_validated_tokens: int
    synthetic: bool
    variants: tuple[str, ...] | None
    acceptance: Mapping[str, Any]
    file: Path
    version: str | None = None


@dataclass(frozen=True)
class Variant:
    """One block of ``config/variants.yaml``.

    Attributes:
        requires: ``{files, config, remedy}``, what must be here to make it; None: nothing.
        notice: what users must know before they take it; empty: nothing.
    """

    name: str
    summary: str
    snippet: Path
    converter: str
    format: str
    precision: str
    base: str | None
    options: Mapping[str, Any]
    devices: tuple[str, ...]
    memory_bytes_per_parameter: float
    requires: Mapping[str, Any] | None = None
    notice: str = ""


@dataclass(frozen=True)
class Settings:
    """The whole configuration: everything known, and what was chosen of it.

    Attributes:
        tools: what a variant's ``requires.config`` may name, and its value (None: not here).
        version: of the releases of models that name none themselves.
        builder: URI of who runs this.
        signing: ``{key, certificate, certificate_chain, password_env}``; empty: not configured.
        publish: config key ``publish``; empty: releases are published nowhere.
    """

    models: Mapping[str, Model]
    variants: Mapping[str, Variant]
    devices: Mapping[str, Device]
    chosen_models: tuple[str, ...]
    chosen_variants: tuple[str, ...]
    channel: str
    score_positions: int
    tools: Mapping[str, Mapping[str, Any] | None]
    kit_payload: bool = True
    acceptance: Path = field(default=CONFIG / "acceptance.yaml")
    version: str = "0.1.0"
    builder: str = "urn:phiforge:builder:unnamed"
    signing: Mapping[str, Any] = field(default_factory=dict)
    publish: Mapping[str, Any] = field(default_factory=dict)


def load(config: Mapping[str, Any], folder: Path = CONFIG) -> Settings:
    """Read and validate everything below ``folder``; ``config`` is Snakemake's merged mapping.

    Raises:
        ConfigurationError: the first thing that is wrong, in one line.
    """
    where = f"{folder / 'config.yaml'} or --config"
    chosen = {key: _as_list(value) if key in _LISTS else value for key, value in config.items()}
    validate(chosen, "config", where)
    devices = load_devices([folder / "devices.yaml", *map(Path, chosen.get("device_files", []))])
    variants = _variants(folder / "variants.yaml", devices)
    models = _models(
        [*sorted((folder / "models").glob("*.yaml")), *map(Path, chosen["model_files"])], variants
    )
    return Settings(
        models=models,
        variants=variants,
        devices=devices,
        chosen_models=_choose("models", chosen["models"], models, where),
        chosen_variants=_choose("variants", chosen["variants"] or list(variants), variants, where),
        channel=chosen["channel"],
        score_positions=chosen["score_positions"],
        tools={"npu_compiler": read_npu_compiler(chosen["npu_compiler"], where)},
        kit_payload=chosen.get("kit_payload", True) in (True, "true"),
        acceptance=folder / "acceptance.yaml",
        version=chosen.get("version", Settings.version),
        builder=chosen.get("builder", Settings.builder),
        signing=_signing(chosen.get("signing")),
        publish=chosen.get("publish") or {},
    )


def _signing(given: Mapping[str, Any] | None) -> dict[str, Any]:
    signing = dict(given or {})
    for name in {"key", "certificate"} & signing.keys():
        signing[name] = str(Path(signing[name]).expanduser())
    if "certificate_chain" in signing:
        chain = signing["certificate_chain"]
        signing["certificate_chain"] = [str(Path(one).expanduser()) for one in chain]
    return signing


def _as_list(value: Any) -> Any:
    """``--config models=a,b`` arrives as text, a YAML file gives a list; both mean the same."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return [] if value is None else value


def _choose(
    key: str, names: Iterable[str], known: Mapping[str, object], where: str
) -> tuple[str, ...]:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"key '{key}' names '{name}', which is not configured",
                where=where,
                remedy=did_you_mean(name, sorted(known)),
            )
    return tuple(dict.fromkeys(names))


def _variants(path: Path, devices: Mapping[str, Device]) -> dict[str, Variant]:
    document = read_yaml(path)
    validate(document, "variants", path)
    variants = {}
    for name, block in document.items():
        _check_options(name, block, path)
        variants[name] = Variant(
            name=name,
            summary=block["summary"],
            snippet=_snippet(name, block["snippet"], path),
            converter=block["converter"],
            format=block["format"],
            precision=block["precision"],
            base=block.get("from"),
            options=block["options"],
            devices=tuple(block["devices"]),
            memory_bytes_per_parameter=block["memory_bytes_per_parameter"],
            requires=block.get("requires"),
            notice=block.get("notice", ""),
        )
        _check_rows(variants[name], devices, path)
    for variant in variants.values():
        _check_ancestry(variant, variants, path)
    return variants


def _check_options(name: str, block: Mapping[str, Any], path: Path) -> None:
    converter = block["converter"]
    known = sorted(file.name.split(".")[0] for file in (SCHEMAS / "options").glob("*.schema.json"))
    if converter not in known:
        raise ConfigurationError(
            f"key '{name}.converter' names '{converter}', which is not a converter",
            where=path,
            remedy=did_you_mean(converter, known),
        )
    validate(block["options"], f"options/{converter}", f"{path}: {name}.options")


def _snippet(name: str, snippet: str, path: Path) -> Path:
    file = SNIPPETS / f"{snippet}.py"
    if not file.is_file():
        raise ConfigurationError(
            f"key '{name}.snippet' names '{snippet}', which is not a loading snippet",
            where=path,
            remedy=did_you_mean(snippet, sorted(one.stem for one in SNIPPETS.glob("*.py"))),
        )
    return file


def _check_rows(variant: Variant, devices: Mapping[str, Device], path: Path) -> None:
    for row in variant.devices:
        if row not in devices:
            raise ConfigurationError(
                f"key '{variant.name}.devices' names '{row}', which is not a device row",
                where=path,
                remedy=did_you_mean(row, sorted(devices)),
            )
        if variant.format not in devices[row].runtimes:
            raise ConfigurationError(
                f"key '{variant.name}.devices' names '{row}', which has no runtime for "
                f"'{variant.format}'",
                where=path,
                expected=f"a row with one of {', '.join(sorted(devices[row].runtimes))}",
                found=variant.format,
                remedy=f"take the row out, or add {variant.format} to its runtimes",
            )


def _check_ancestry(variant: Variant, variants: Mapping[str, Variant], path: Path) -> None:
    seen = [variant.name]
    while variant.base is not None:
        if variant.base not in variants:
            raise ConfigurationError(
                f"key '{variant.name}.from' names '{variant.base}', which is not a variant",
                where=path,
                remedy=did_you_mean(variant.base, sorted(variants)),
            )
        if variant.base in seen:
            cycle = " -> ".join([*seen, variant.base])
            raise ConfigurationError(
                f"key '{variant.name}.from' closes a cycle ({cycle})",
                where=path,
                remedy="let one of them be converted from the source (no 'from')",
            )
        seen.append(variant.base)
        variant = variants[variant.base]


def _models(files: Iterable[Path], variants: Mapping[str, Variant]) -> dict[str, Model]:
    models: dict[str, Model] = {}
    for path in files:
        model = _model(path, variants)
        if model.name in models:
            raise ConfigurationError(
                f"key 'name' has the value '{model.name}', which {models[model.name].file} has too",
                where=path,
                remedy="give one of the two another name",
            )
        models[model.name] = model
    return models


def _model(path: Path, variants: Mapping[str, Variant]) -> Model:
    document = read_yaml(path)
    validate(document, "model", path)
    chosen = document.get("variants")
    if chosen is not None:
        _choose("variants", chosen, variants, str(path))
    source = dict(document["source"])
    if "path" in source:
        source["path"] = str(beside(path, source["path"]))
    golden = beside(path, document["golden"])
    if not golden.is_file():
        raise ConfigurationError(
            f"key 'golden' names '{document['golden']}', and {golden} is not there",
            where=path,
            remedy="paths are relative to this file; correct the path or add the file",
        )
    return Model(
        name=document["name"],
        title=document["title"],
        license=document["license"],
        parameters=document["parameters"],
        source=source,
        golden=golden,
        check_tokens=document.get("check_tokens", 2560),
        minimum_validated_tokens=document.get("minimum_validated_tokens", 64),
        synthetic=document.get("synthetic", False),
        variants=None if chosen is None else tuple(chosen),
        acceptance=document.get("acceptance", {}),
        file=path,
        version=document.get("version"),
    )
