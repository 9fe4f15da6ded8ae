"""Check a block of YAML by a table of its keys.

For the files that devices read too, golden prompts and gates: pydantic is not installed there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from phiforge.settings.documents import missing_key, unknown_key, wrong_value

_KINDS = {
    str: "text",
    int: "integer",
    float: "number",
    bool: "boolean",
    dict: "mapping",
    list: "list",
}


@dataclass(frozen=True)
class Key:
    """What a key means and what its value must be.

    Attributes:
        minimum, maximum: of a number.
        pattern: regular expression that a text must match as a whole.
        example: as YAML has it.
    """

    kind: type
    meaning: str
    required: bool = True
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    example: str = ""

    def accepts(self, value: Any) -> bool:
        """Return whether ``value`` may stand here; text and lists must not be empty."""
        if isinstance(value, bool) is not (self.kind is bool):
            return False
        if self.kind in (int, float):
            return isinstance(value, (int, self.kind)) and (
                (self.minimum is None or value >= self.minimum)
                and (self.maximum is None or value <= self.maximum)
            )
        if self.pattern is not None and not re.fullmatch(self.pattern, str(value)):
            return False
        return isinstance(value, self.kind) and (self.kind is bool or bool(value))

    @property
    def expectation(self) -> str:
        """Say in words what `accepts` accepts."""
        words = [_KINDS[self.kind] if self.pattern is None else f"text matching {self.pattern}"]
        words += ["not empty"] if self.kind in (str, dict, list) and not self.pattern else []
        words += [] if self.minimum is None else [f"at least {self.minimum}"]
        words += [] if self.maximum is None else [f"at most {self.maximum}"]
        return ", ".join(words)


def check_keys(block: Any, keys: Mapping[str, Key], where: Path, *steps: str | int) -> Any:
    """Return ``block``, a mapping with ``keys`` and no others.

    Args:
        steps: that lead to the block in the file.

    Raises:
        ConfigurationError: naming file, key, value and remedy of the first mistake.
    """

    def path(*more: str) -> str:
        return ".".join(map(str, (*steps, *more)))

    if not isinstance(block, dict):
        raise wrong_value(path(), block, "mapping", "write key: value lines", where)
    for name, value in block.items():
        if name not in keys:
            raise unknown_key(path(str(name)), value, keys, where)
    for name, key in keys.items():
        if name not in block:
            if key.required:
                raise missing_key(path(name), key.meaning, where)
        elif not key.accepts(block[name]):
            raise wrong_value(path(name), block[name], key.expectation, key.meaning, where)
    return block
