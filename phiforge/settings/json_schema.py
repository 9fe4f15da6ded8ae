"""Check a record against its JSON schema: receipts and the index, until they have readers."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from phiforge.checkout import ROOT
from phiforge.settings.documents import ConfigurationError, did_you_mean

SCHEMAS = ROOT / "config" / "schemas"


@cache
def _validator(schema_path: Path) -> jsonschema.Draft202012Validator:
    schema = json.loads(schema_path.read_text(encoding="utf-8"))
    registry: Registry[Any] = Registry(retrieve=_beside)  # type: ignore[call-arg]
    return jsonschema.Draft202012Validator(schema, registry=registry)


def _beside(name: str) -> Resource[Any]:
    """Another schema of the folder, as a ``$ref`` names it."""
    return DRAFT202012.create_resource(json.loads((SCHEMAS / name).read_text(encoding="utf-8")))


def validate(document: Mapping[str, Any], schema: str, where: str | Path) -> None:
    """Hold ``document`` against ``config/schemas/<schema>.schema.json``.

    Raises:
        ConfigurationError: naming file, key, value and remedy of the first error in the document.
    """
    errors = sorted(
        _validator(SCHEMAS / f"{schema}.schema.json").iter_errors(document),
        # An unknown key first: a typo also leaves the key missing that was meant.
        key=lambda error: (
            error.validator != "additionalProperties",
            [str(step) for step in error.absolute_path],
            error.message,
        ),
    )
    for error in errors:
        raise _one_line(_deepest(error), where)


def _deepest(error: ValidationError) -> ValidationError:
    """Of an `anyOf`/`oneOf` error, the branch that came closest; it says what was meant."""
    while error.context:
        error = max(error.context, key=lambda one: len(list(one.absolute_path)))
    return error


def _one_line(error: ValidationError, where: str | Path) -> ConfigurationError:
    path = ".".join(str(step) for step in error.absolute_path)
    schema: Mapping[str, Any] = error.schema if isinstance(error.schema, Mapping) else {}
    if error.validator == "additionalProperties" and isinstance(error.instance, Mapping):
        known = sorted(schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        key = f"{path}.{unknown}" if path else str(unknown)
        return ConfigurationError(
            f"unknown key '{key}' (value {error.instance[unknown]!r})",
            where=where,
            remedy=did_you_mean(str(unknown), known),
        )
    if error.validator == "required" and isinstance(error.instance, Mapping):
        missing = next(key for key in schema["required"] if key not in error.instance)
        key = f"{path}.{missing}" if path else str(missing)
        described = schema.get("properties", {}).get(missing, {}).get("description", "")
        return ConfigurationError(
            f"key '{key}' is missing", where=where, remedy=f"add it: {described or missing}"
        )
    described = schema.get("description", "")
    return ConfigurationError(
        f"key '{path or '(document)'}' has a value that is not allowed ({error.message})",
        where=where,
        expected=_expectation(schema),
        found=repr(error.instance),
        remedy=described or "correct the value",
    )


def _expectation(schema: Mapping[str, Any]) -> str:
    parts = list(_expectations(schema))
    return ", ".join(parts) if parts else "a value that the schema allows"


def _expectations(schema: Mapping[str, Any]) -> Iterator[str]:
    if "enum" in schema:
        yield "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        yield repr(schema["const"])
    if "pattern" in schema:
        yield f"text matching {schema['pattern']}"
    elif "type" in schema and "enum" not in schema:
        kinds = schema["type"]
        yield "/".join(kinds) if isinstance(kinds, list) else str(kinds)
    if "minimum" in schema:
        yield f"at least {schema['minimum']}"
    if "maximum" in schema:
        yield f"at most {schema['maximum']}"
