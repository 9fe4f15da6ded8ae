"""config/variants.yaml: what is made of a model, by which converter, for which devices."""

import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from phiforge.checkout import ROOT
from phiforge.settings.blocks import Block, Items, Name, Text, mistake, read_block
from phiforge.settings.devices import Device
from phiforge.settings.documents import ConfigurationError, did_you_mean, read_named_blocks

SNIPPETS = Path("phiforge/release/snippets")
CONVERTERS = ROOT / "converters"


class Requires(Block):
    """What must be on this machine to make a variant.

    Attributes:
        files: glob patterns, absolute or below the checkout, that must each match a file; e.g.
            [".venv-npu-library/.installed"]
        tool: what must be set up here (make npu-compiler) or named in config/config.yaml; the
            converter is given it
        remedy: how to get what is missing, in one sentence; e.g. make npu-library
    """

    files: Items[Text] = ()
    tool: Literal["npu_compiler"] | None = None
    remedy: Text

    @model_validator(mode="after")
    def _names_something(self) -> "Requires":
        if not self.files and self.tool is None:
            raise mistake("requires nothing", "name 'files' or 'tool', or take it out")
        return self


def _snippet_file(name: Any) -> Any:
    file = SNIPPETS / f"{name}.py"
    if not file.is_file():
        known = sorted(file.stem for file in SNIPPETS.glob("*.py"))
        raise mistake(
            f"names '{name}', which is not a loading snippet", did_you_mean(str(name), known)
        )
    return file


def converter_names() -> list[str]:
    """Return the names of all converters: packages of converters/ with an ``options`` module."""
    return sorted(file.parent.name for file in CONVERTERS.glob("*/options.py"))


@cache
def options_of(converter: str) -> type[Block]:
    """Return the model of a converter's options.

    The module is executed alone: its package may import a toolchain, which planning must not.
    """
    name = f"converters.{converter}.options"
    spec = spec_from_file_location(name, CONVERTERS / converter / "options.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = sys.modules[name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    options: type[Block] = module.Options
    return options


def _known_converter(name: str) -> str:
    if name not in (known := converter_names()):
        raise mistake(f"names '{name}', which is not a converter", did_you_mean(name, known))
    return name


class Variant(Block):
    """One block of config/variants.yaml, under the variant's name.

    Attributes:
        summary: what it is and for which hardware, in one line of the card; e.g. OpenVINO IR with
            FP16 weights, for Intel GPUs and CPUs.
        notice: what its users must know before they take it, at the top of the card; e.g. Not for
            new programs.
        snippet: how the card shows to load it: a file of phiforge/release/snippets/, without its
            ending; e.g. openvino
        converter: package of converters/ that makes it; e.g. openvino
        format: what kind of artifact it is; a device row says which runtime runs it; e.g. openvino
        precision: precision of the weights; the acceptance gates follow from it
        base: the variant it is derived from; null: from the source; e.g. openvino-fp16
        options: options of the converter, see below; e.g. {"weight_format": "fp16"}
        devices: device rows it is checked on; one receipt each; e.g. ["cpu", "gpu"]
        memory_bytes_per_parameter: peak resident memory of the conversion, in bytes per weight
            (measured: benchmarks/full_size); e.g. 2.2
        requires: what must be here to make it; where it is not, the variant is blocked and `all`
            ends well without it
    """

    name: SkipJsonSchema[str]
    summary: Text
    notice: str = ""
    snippet: Annotated[Path, BeforeValidator(_snippet_file)]
    converter: Annotated[str, AfterValidator(_known_converter)]
    format: Name
    precision: Literal["fp16", "int8", "int4", "nf4"]
    base: str | None = Field(None, alias="from")
    options: dict[str, Any]
    devices: Annotated[Items[str], Field(min_length=1)]
    memory_bytes_per_parameter: float = Field(gt=0)
    requires: Requires | None = None

    @field_validator("devices")
    @classmethod
    def _each_row_once(cls, devices: tuple[str, ...]) -> tuple[str, ...]:
        for row in devices:
            if devices.count(row) > 1:
                raise mistake(f"names '{row}' twice", "keep one of the two")
        return devices


def load_variants(path: Path, devices: Mapping[str, Device]) -> dict[str, Variant]:
    """Read every variant, and hold what it names against what there is.

    Raises:
        ConfigurationError: the first thing that is wrong, naming file and key.
    """
    variants = {}
    for name, block in read_named_blocks(path):
        variant = variants[name] = read_block(Variant, block, path, name, name=name)
        read_block(options_of(variant.converter), variant.options, path, f"{name}.options")
        _check_rows(variants[name], devices, path)
    for variant in variants.values():
        _check_ancestry(variant, variants, path)
    return variants


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
