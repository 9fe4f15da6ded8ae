"""What every converter takes and gives.

A converter is a package ``converters/<name>/`` with the model of its options in ``options.py``
(`phiforge.settings.blocks.Block`) and one public function::

    def convert(source: Path, into: Path, *, options: Options, base: Path | None = None
                ) -> BuildRecord: ...

``source`` is a verified source tree (safetensors, configuration, tokenizer), ``into`` an empty
scratch folder that becomes the payload, ``base`` the payload of the variant named by ``from:``
where the configuration names one. Where the variant says ``requires: {tool: NAME}``, it is also
given ``tools={NAME: value}`` (`Settings.tools`). The function writes only
below ``into``, never touches the network, and raises `ConvertError` for what a person can act on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from phiforge.errors import PhiforgeError

Options = Mapping[str, Any]
"""A variant's ``options`` block, as ``converters.<name>.options`` describes it."""


class ConvertError(PhiforgeError):
    """A conversion cannot be done, or its result is not what was asked for."""


@dataclass(frozen=True)
class BuildRecord:
    """What a converter did, in terms that are the same on every machine.

    Attributes:
        toolchain: package name to version, of every package that shaped the bytes.
        recipe: every option as it was really passed to the official tool, defaults included.
        notes: deviations from the official tool's result, each with its reason.
    """

    toolchain: Mapping[str, str]
    recipe: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())
