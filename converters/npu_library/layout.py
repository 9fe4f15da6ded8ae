"""``npu-library.json``: which of the payload's tensors belong to which module.

The tensors are in ``model-<number>-of-<count>.safetensors``, by the names of the model's modules:

- ``<module>.weight`` (and ``.scale``, ``.bias``) of the library's own modules, which ``modules``
  lists with their class: ``Linear`` (float16 weight) or ``QuantizedLinear`` (int8 weight, or
  uint8 with two signed 4-bit codes a byte, the first in the low half; float16 ``scale`` of shape
  (outputs, 1) as the module holds it, the root of the input width multiplied in);
- every other parameter, by its name in the model's ``state_dict``.

Buffers (rotary frequencies) are not written: the configuration defines them.
"""

from collections.abc import Mapping
from typing import Any

SCHEMA = "phiforge/npu-library/1"


def layout(dtype: str, options: Mapping[str, Any], modules: Mapping[str, str]) -> dict[str, Any]:
    """The record.

    Args:
        dtype: ``int8``, ``int4`` or ``fp16``.
        options: the variant's options.
        modules: module name to the library's class.
    """
    return {
        "schema": SCHEMA,
        "library": "intel-npu-acceleration-library",
        "dtype": dtype,
        "attn_implementation": options.get("attn_implementation", "sdpa"),
        "max_length": options.get("max_length"),
        "computes_in": "float32",
        "modules": dict(modules),
    }
