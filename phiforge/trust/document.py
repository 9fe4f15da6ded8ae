"""Read JSON that someone else wrote: bounded in size, depth and number of values."""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from phiforge.decoding import DecodeError, decode
from phiforge.trust import TrustError

T = TypeVar("T")

MAX_DOCUMENT = 4_000_000  # bytes; the largest of ours, a bill of materials, has some 100,000
MAX_DEPTH = 32
MAX_VALUES = 200_000  # of any kind, keys included: a second's work for the parser
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{\]},]', re.DOTALL)


def parse_json(data: bytes | str, where: str) -> dict[str, Any]:
    """Return the JSON object that ``data`` holds, read strictly.

    Raises:
        TrustError: ``oversized-file``, ``not-utf-8``, ``deep-json``, ``duplicate-key`` or
            ``not-json`` (NaN and infinite numbers included).
    """
    if len(data) > MAX_DOCUMENT:
        raise TrustError("oversized-file", f"larger than {MAX_DOCUMENT} bytes", where)
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError:
        raise TrustError("not-utf-8", "is not UTF-8 text", where) from None
    _check_shape(text, where)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise TrustError("duplicate-key", "repeats a JSON key", where)
        return value

    def refuse(constant: str) -> Any:
        raise TrustError("not-json", f"{constant} is not JSON", where)

    def finite(number: str) -> float:
        return float(number) if math.isfinite(float(number)) else refuse(number[:20])

    try:
        value = json.loads(
            text, object_pairs_hook=unique, parse_constant=refuse, parse_float=finite
        )
    except ValueError as error:
        raise TrustError("not-json", f"is not JSON ({error})", where) from None
    if not isinstance(value, dict):
        raise TrustError("not-json", "is not a JSON object", where)
    return value


def _check_shape(text: str, where: str) -> None:
    """Count before the parser builds anything: brackets nest, and every value costs memory."""
    depth = 0
    for values, token in enumerate(_TOKEN.finditer(text)):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise TrustError("deep-json", f"nested deeper than {MAX_DEPTH} levels", where)
        if values > MAX_VALUES:
            raise TrustError("oversized-file", f"holds more than {MAX_VALUES} values", where)


def parse_record(kind: type[T], data: bytes | str, where: str) -> T:
    """Return the record of type ``kind``, a dataclass, that ``data`` holds.

    Raises:
        TrustError: see `parse_json`; ``malformed``: it is not such a record.
    """
    value = parse_json(data, where)
    try:
        return decode(kind, value)
    except DecodeError as error:
        raise TrustError("malformed", str(error), where) from None


def member(value: Any, kind: type, *path: str | int, where: str) -> Any:
    """Return the value at ``path`` inside a JSON document.

    Raises:
        TrustError: ``malformed``: it is missing, or is not a ``kind``.
    """
    for step in path:
        if isinstance(step, str) != isinstance(value, Mapping):
            raise _lacks(path, where)
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            raise _lacks(path, where) from None
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        name = ".".join(map(str, path))
        raise TrustError("malformed", f"'{name}' is not of type {kind.__name__}", where)
    return value


def _lacks(path: tuple[str | int, ...], where: str) -> TrustError:
    return TrustError("malformed", f"lacks '{'.'.join(map(str, path))}'", where)


def from_base64(text: str, where: str) -> bytes:
    """Return the bytes of ``text``.

    Raises:
        TrustError: ``malformed``: it is not base64, or not in its one canonical form.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    if base64.b64encode(data).decode() != text:
        raise TrustError("malformed", "holds text that is not base64", where)
    return data
