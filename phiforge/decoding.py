"""Read JSON values as frozen dataclasses: every field there, none besides, each of its type."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from phiforge.errors import PhiforgeError

T = TypeVar("T")

Digest = Annotated[str, re.compile(r"[0-9a-f]{64}")]
Name = Annotated[str, re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")]
Text = Annotated[str, re.compile(r".+", re.DOTALL)]


class DecodeError(PhiforgeError):
    """A JSON value is not what its type asks for; the message names the key."""


def decode(kind: type[T], value: Any, key: str = "") -> T:
    """Return ``value`` as a ``kind``.

    Known are dataclasses, ``X | None``, ``tuple[X, ...]``, ``Mapping[K, X]``, literals, ``Any``,
    JSON's own types, and texts that must match a pattern (``Annotated``). An int serves as float.

    Args:
        key: the path to ``value`` in its document, for messages.

    Raises:
        DecodeError: a key is missing, unknown or of another type.
    """
    return cast(T, _decode(kind, value, key))


def _decode(kind: Any, value: Any, key: str) -> Any:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not NoneType)
        return None if value is None else _decode(inner, value, key)
    if origin is Annotated:
        text = _decode(arguments[0], value, key)
        _expect(arguments[1].fullmatch(text) is not None, arguments[1].pattern, value, key)
        return text
    if origin is Literal:
        known = isinstance(value, str | int) and value in arguments
        _expect(known, " or ".join(map(str, arguments)), value, key)
        return value
    if is_dataclass(origin):
        return _object(origin, value, key)
    if origin is Mapping:
        _expect(isinstance(value, dict), "an object", value, key)
        return {
            _decode(arguments[0], name, key): _decode(arguments[1], one, f"{key}.{name}")
            for name, one in value.items()
        }
    if origin is tuple:
        _expect(isinstance(value, list), "a list", value, key)
        return tuple(_decode(arguments[0], one, f"{key}.{i}") for i, one in enumerate(value))
    if kind is float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        _expect(number and math.isfinite(value), "a number", value, key)
        return value
    _expect(type(value) is kind, {str: "a text", int: "an integer"}.get(kind, kind), value, key)
    return value


def _object(kind: Any, value: Any, key: str) -> Any:
    hints = _hints(kind)
    _expect(isinstance(value, dict), "an object", value, key)
    if value.keys() != hints.keys():
        missing, unknown = sorted(hints.keys() - value.keys()), sorted(value.keys() - hints.keys())
        what = f"lacks {', '.join(missing)}" if missing else f"holds unknown {', '.join(unknown)}"
        raise DecodeError(f"'{key}' {what}" if key else what)
    prefix = f"{key}." if key else ""
    return kind(**{name: _decode(hints[name], value[name], prefix + name) for name in hints})


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _expect(holds: bool, expected: object, found: Any, key: str) -> None:
    if not holds:
        raise DecodeError(f"'{key}' is not right", expected=expected, found=f"{found!r}"[:80])
