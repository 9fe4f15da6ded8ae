"""Print config/README.md: every key of the configuration: type, default, meaning, example."""

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any

from phiforge.settings.blocks import Block, expectations, resolve, values_of
from phiforge.settings.config import Config
from phiforge.settings.devices import Device
from phiforge.settings.hardware import Hardware
from phiforge.settings.keys import Key
from phiforge.settings.models import Model
from phiforge.settings.regression import Regression
from phiforge.settings.variants import Variant, converter_names, options_of
from validators import acceptance, golden

_HEAD = """\
# The configuration

Every key of every file that says what is built. This page is generated from the models that read
the files: `phiforge configuration > config/README.md`. A mistake ends a run before its first job,
in one line that names file, key, value and remedy; keys that are not listed here are refused.
"""
_TABLE = "| key | type | default | meaning | example |\n|---|---|---|---|---|\n"


@dataclass(frozen=True)
class _Row:
    key: str
    kind: str
    default: str
    meaning: str
    example: str = ""

    def __str__(self) -> str:
        cells = (f"`{self.key}`", self.kind, self.default, self.meaning, self.example)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the reference is of this checkout."""


def run(arguments: argparse.Namespace) -> None:
    """Print the reference."""
    print(reference(), end="")


def reference() -> str:
    """Return the text of config/README.md."""
    sections = [
        _section("config.yaml", "One file.", _rows_of(Config)),
        _section("models/*.yaml and `model_files`", "One file a model.", _rows_of(Model)),
        _section("variants.yaml", "One block a variant, `<name>:`.", _rows_of(Variant)),
        *map(_options, converter_names()),
        _section(
            "devices.yaml and `device_files`", "One block a row, `<name>:`.", _rows_of(Device)
        ),
        _section(
            "golden/*.yaml, a model's `golden`",
            "Generation is greedy (`do_sample: false`), so a temperature would change nothing.",
            [
                *_rows_of_keys(golden.FILE, ""),
                *_rows_of_keys(golden.PROMPT, "prompts[]."),
                *_rows_of_keys(golden.REPEAT, "prompts[].repeat."),
            ],
        ),
        _section(
            "acceptance.yaml",
            "Written by `python -m benchmarks.calibrate_acceptance gates` from measurements.",
            [
                *_rows_of_keys(acceptance.FILE, ""),
                *_rows_of_keys(acceptance.PRECISION, "<precision>."),
                *_rows_of_keys(acceptance.METRIC, "<precision>.<metric>."),
            ],
        ),
        _section("hardware.yaml", "One block a kind of hardware, `<name>:`.", _rows_of(Hardware)),
        _section("regression.yaml", _summary(Regression), _rows_of(Regression)),
    ]
    return "\n".join([_HEAD, *sections])


def _section(title: str, text: str, rows: list[_Row]) -> str:
    return f"## {title}\n\n{text}\n\n{_TABLE}{''.join(map(str, rows))}"


def _options(converter: str) -> str:
    options = options_of(converter)
    return _section(f"options of converter {converter}", _summary(options), _rows_of(options))


def _summary(model: type[Block]) -> str:
    return cleandoc(model.__doc__ or "").partition("Attributes:")[0].strip()


def _rows_of(model: type[Block]) -> list[_Row]:
    schema = model.model_json_schema()
    return list(_rows(schema, schema.get("$defs", {}), ""))


def _rows(schema: Mapping[str, Any], definitions: Mapping[str, Any], above: str) -> Iterator[_Row]:
    for name, written in schema.get("properties", {}).items():
        value = resolve(written, definitions)
        key = above + name
        yield _Row(
            key,
            _kind(value),
            _default(value, name in schema.get("required", [])),
            value["description"],
            _example(value),
        )
        yield from _rows(value, definitions, f"{key}.")
        values = resolve(values_of(value) or {}, definitions)
        step = "[]" if "items" in value else ".<name>"
        yield from _rows(values, definitions, f"{key}{step}.")
        for branch in value.get("oneOf", []):
            yield from _rows(resolve(branch, definitions), definitions, f"{key}.")


def _kind(schema: Mapping[str, Any]) -> str:
    """Say what a value must be; a pattern is for the error message, the meaning says it here."""
    known = {name: value for name, value in schema.items() if name != "pattern"}
    return ", ".join(expectations(known)) or "mapping"


def _default(schema: Mapping[str, Any], required: bool) -> str:
    if required:
        return "required"
    return f"`{_json(schema['default'])}`" if "default" in schema else "`{}`"


def _example(schema: Mapping[str, Any]) -> str:
    if "examples" in schema:
        return f"`{schema['examples'][0]}`"
    values = [
        *schema.get("enum", [])[-1:],
        *([schema["const"]] if "const" in schema else []),
        *([schema["default"]] if schema.get("default") is not None else []),
    ]
    return f"`{_json(values[0])}`" if values else ""


def _json(value: object) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _rows_of_keys(keys: Mapping[str, Key], above: str) -> Iterator[_Row]:
    for name, key in keys.items():
        kind = "text" if key.pattern else key.expectation
        default = "required" if key.required else "left out"
        example = f"`{key.example}`" if key.example else ""
        yield _Row(above + name, kind, default, key.meaning, example)
