"""Base of the configuration's models: closed, frozen, and wrong in one line.

Only what reads the configuration imports this: pydantic is not on devices, nor in the verifier.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from phiforge.settings.documents import (
    NAME,
    ConfigurationError,
    beside,
    missing_key,
    unknown_key,
    wrong_value,
)


class Block(BaseModel):
    """A mapping of a configuration file, with these keys and no others.

    The docstrings of subclasses describe each key below ``Attributes:``, perhaps with an example
    after "e.g."; error messages and config/README.md say the same.
    """

    # Deferred: the model of a whole file contains those of its blocks, which are not built alone.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        _, _, attributes = cleandoc(cls.__doc__ or "").partition("Attributes:\n")
        for match in re.finditer(r"^ {4}(\w+): (.*(?:\n {5,}.*)*)", attributes, re.MULTILINE):
            description, _, example = " ".join(match[2].split()).partition("; e.g. ")
            field = cls.model_fields[match[1]]
            field.description, field.examples = description, [example] if example else None

    def plain(self) -> dict[str, Any]:
        """Return the keys that have another value than their default, as JSON has them."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


_BlockT = TypeVar("_BlockT", bound=Block)
_T = TypeVar("_T")

Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=NAME)]
# YAML has lists; strict pydantic would want the tuple itself.
Items = Annotated[tuple[_T, ...], Field(strict=False)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def _beside_file(value: Any, info: ValidationInfo) -> Any:
    """Resolve a path that a file names; a block that was read once is not resolved again."""
    if not value or not isinstance(value, str) or info.context is None:
        return value
    return beside(info.context, value)


RelativePath = Annotated[Path, Field(strict=False), BeforeValidator(_beside_file)]
"""A path relative to the file that names it."""


def existing_file(remedy: str) -> BeforeValidator:
    """Return the validator of a relative path that must lead to a file."""

    def check(value: Any, info: ValidationInfo) -> Any:
        path = _beside_file(value, info)
        if isinstance(path, Path) and not path.is_file():
            what = f"names '{value}', and {path} is not there"
            raise mistake(what, f"paths are relative to this file; {remedy}")
        return path

    return BeforeValidator(check)


def mistake(what: str, remedy: str, *, key: str = "", expected: str = "", found: str = "") -> Any:
    """Return the error that a validator raises for a value of the right type.

    Args:
        what: follows "key '…'".
        key: below the validated one, with dots.
    """
    facts = {"what": what, "remedy": remedy, "key": key, "expected": expected, "found": found}
    return PydanticCustomError("mistake", "{what}", facts)


def read_block(
    model: type[_BlockT],
    block: Any,
    where: str | Path,
    key: str = "",
    **loaded: Any,
) -> _BlockT:
    """Make a ``model`` of a mapping.

    Args:
        where: file that holds the block; relative paths are relative to it.
        key: of the block in the file; empty: the block is the whole file.
        loaded: fields that no file may give.

    Raises:
        ConfigurationError: naming file, key, value and remedy of the first mistake.
    """
    for name in loaded.keys() & block.keys():
        known = model.model_json_schema()["properties"]
        raise unknown_key(_dotted(key, name), block[name], known, where)
    try:
        return model.model_validate({**block, **loaded}, context=where)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        # An unknown key first: a typo also leaves the key missing that was meant.
        first = min(errors, key=lambda one: one["type"] != "extra_forbidden")
        raise _one_line(first, model.model_json_schema(), where, key) from None


def _one_line(
    error: ErrorDetails, schema: Mapping[str, Any], where: str | Path, above: str
) -> ConfigurationError:
    parent = schema
    steps = [above]
    for step, inner in _follow(schema, error["loc"]):
        parent, schema = schema, inner
        steps += [] if step is None else [step]
    key, meaning = _dotted(*steps), schema.get("description", "")
    if error["type"] == "extra_forbidden":
        return unknown_key(key, error["input"], parent.get("properties", {}), where)
    if error["type"] == "missing":
        return missing_key(key, meaning or steps[-1], where)
    if error["type"] == "mistake":
        facts = error["ctx"]
        return ConfigurationError(
            f"key '{_dotted(key, facts['key'])}' {facts['what']}",
            where=where,
            expected=facts["expected"] or None,
            found=facts["found"] or None,
            remedy=facts["remedy"],
        )
    expected = ", ".join(expectations(schema)) or error["msg"]
    return wrong_value(key, error["input"], expected, meaning, where)


def _dotted(*steps: str) -> str:
    return ".".join(filter(None, steps))


def _follow(
    schema: Mapping[str, Any], steps: Sequence[str | int]
) -> Iterator[tuple[str | None, Mapping[str, Any]]]:
    """Yield each step's key and schema; the step that names a union's branch has no key."""
    definitions = schema.get("$defs", {})
    names: Mapping[str, Any] = {}
    for step in steps:
        key: str | None = str(step)
        if step in schema.get("properties", {}):
            schema = schema["properties"][step]
        elif step == "[key]":  # the key itself is wrong, not its value
            key, schema = None, names
        elif (values := values_of(schema)) is not None:
            names, schema = {"pattern": next(iter(schema.get("patternProperties", "")), "")}, values
        elif step in definitions:
            key, schema = None, definitions[step]
        else:
            schema = {}
        schema = resolve(schema, definitions)
        yield key, schema


def resolve(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Put in what a ``$ref`` names, and the one branch that a nullable value has beside null."""
    if "$ref" in schema:
        schema = {**definitions[schema["$ref"].rpartition("/")[2]], **schema}
    branches = [one for one in schema.get("anyOf", []) if one != {"type": "null"}]
    if len(branches) == 1:
        schema = {**resolve(branches[0], definitions), **schema, "nullable": True}
    return {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}


def values_of(schema: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the schema of a list's items, or of the values below names that users give."""
    for part in ("items", "additionalProperties"):
        if isinstance(schema.get(part), Mapping):
            values: Mapping[str, Any] = schema[part]
            return values
    return next(iter(schema.get("patternProperties", {}).values()), None)


_KINDS = {"object": "mapping", "array": "list", "string": "text"}


def expectations(schema: Mapping[str, Any]) -> Iterator[str]:
    """Yield in words what a (resolved) schema asks of a value."""
    if "enum" in schema:
        yield "one of " + ", ".join(map(str, schema["enum"]))
    elif "const" in schema:
        yield str(schema["const"])
    elif "pattern" in schema:
        yield f"text matching {schema['pattern']}"
    elif "type" in schema:
        yield _KINDS.get(schema["type"], schema["type"])
    if schema.get("minLength") or schema.get("minItems") or schema.get("minProperties"):
        yield "not empty"
    for name, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
    ):
        if name in schema:
            yield f"{words} {schema[name]}"
    if schema.get("nullable"):
        yield "or null"
