"""The whole configuration as frozen values, every reference resolved."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from glob import has_magic
from pathlib import Path
from typing import Any

from phiforge.environment import installed_tree
from phiforge.npu_compiler import wine
from phiforge.settings.blocks import read_block
from phiforge.settings.config import Cache, Config, NPUCompiler, Publish, Signing
from phiforge.settings.devices import Device, load_devices
from phiforge.settings.documents import ConfigurationError, did_you_mean
from phiforge.settings.hardware import load_hardware
from phiforge.settings.models import Model, load_models
from phiforge.settings.variants import Variant, load_variants

CONFIG = Path("config")


@dataclass(frozen=True)
class Settings:
    """Everything that is configured, by name, and what was chosen of it.

    Attributes:
        acceptance: the file with the gates.
        stable_rows: device rows that stable asks for; see `phiforge.settings.plan.row_policies`.
    """

    models: Mapping[str, Model]
    variants: Mapping[str, Variant]
    devices: Mapping[str, Device]
    chosen_models: tuple[str, ...]
    chosen_variants: tuple[str, ...]
    acceptance: Path
    channel: str
    stable_rows: tuple[str, ...]
    score_positions: int
    kit_payload: bool
    version: str
    builder: str
    npu_compiler: NPUCompiler | None
    signing: Signing
    publish: Publish
    cache: Cache | None

    @cached_property
    def tools(self) -> dict[str, dict[str, Any] | None]:
        """Map each tool that a variant or a row may need to how jobs name it; None: not here.

        Looked for once a run: a plan asks for every variant, row and job.
        """
        named = self.npu_compiler
        compiler = wine.installed() if named is None else named.plain()
        return {
            "npu_compiler": compiler,
            "directml": installed_tree("directml"),
            "intel_gpu": installed_tree("intel-gpu"),
        }


def load(config: Mapping[str, Any], folder: Path = CONFIG) -> Settings:
    """Read and check everything below ``folder``; ``config`` is Snakemake's merged mapping.

    Raises:
        ConfigurationError: the first thing that is wrong, in one line.
    """
    where = f"{folder / 'config.yaml'} or --config"
    chosen = read_block(Config, config, where)
    devices = load_devices([folder / "devices.yaml", *map(Path, chosen.device_files)])
    variants = load_variants(folder / "variants.yaml", devices)
    outside = [file for named in chosen.model_files for file in _model_files(named, where)]
    models = load_models([*sorted((folder / "models").glob("*.yaml")), *outside])
    load_hardware(folder / "hardware.yaml")  # the last job reads it; a mistake is said first
    for model in models.values():
        _check_names(model.variants or (), variants, str(model.file), "variants")
    chosen_models = _expanded(chosen.models, models)
    _check_names(chosen_models, models, where, "models")
    chosen_variants = tuple(variants) if chosen.variants == ("all",) else chosen.variants
    _check_names(chosen_variants, variants, where, "variants")
    real = {name: device for name, device in devices.items() if device.kind == "device"}
    _check_names(chosen.stable_rows, real, where, "stable_rows")
    return Settings(
        models=models,
        variants=variants,
        devices=devices,
        chosen_models=chosen_models,
        chosen_variants=tuple(dict.fromkeys(chosen_variants)),
        acceptance=folder / "acceptance.yaml",
        channel=chosen.channel,
        stable_rows=chosen.stable_rows,
        score_positions=chosen.score_positions,
        kit_payload=chosen.kit_payload,
        version=chosen.version,
        builder=chosen.builder,
        npu_compiler=chosen.npu_compiler,
        signing=chosen.signing,
        publish=chosen.publish,
        cache=chosen.cache,
    )


def _model_files(named: str, where: str) -> list[Path]:
    """Name the model files that a file, a folder or a pattern of `model_files` stands for.

    Raises:
        ConfigurationError: there is none in the folder, or of the pattern.
    """
    path = Path(named)
    if path.is_file() or not (path.is_dir() or has_magic(named)):
        return [path]
    anchor = Path(path.anchor)
    pattern = str(path.relative_to(anchor))
    if found := sorted(path.glob("*.yaml") if path.is_dir() else anchor.glob(pattern)):
        return found
    raise ConfigurationError(
        f"key 'model_files' names '{named}', where there is no model file",
        where=where,
        expected="a YAML file, a folder of *.yaml, or a pattern such as models/*/model.yaml",
        remedy="correct the path, or add the files",
    )


def _expanded(names: Iterable[str], models: Iterable[str]) -> tuple[str, ...]:
    """Put in what patterns stand for; one that fits no model stays, to be refused by name."""
    chosen = (
        [model for model in models if has_magic(name) and fnmatchcase(model, name)] or [name]
        for name in names
    )
    return tuple(dict.fromkeys(model for some in chosen for model in some))


def _check_names(names: Iterable[str], known: Mapping[str, object], where: str, key: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigurationError(
                f"key '{key}' names '{name}', which is not configured",
                where=where,
                remedy=did_you_mean(name, sorted(known)),
            )
