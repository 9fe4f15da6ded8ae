"""Options of the NPU library converter, in the words of its CompilerConfig and from_pretrained."""

from typing import Literal

from pydantic import Field

from phiforge.settings.blocks import Block


class Options(Block):
    """The library's `use_to` and `training` are left out: they give other modules, or none.

    Attributes:
        dtype: of the matrices: int8 or int4, symmetric with one scale an output channel, or fp16
        attn_implementation: transformers' attention, computed beside the library's matrices
        max_length: longest prompt with its answer, in tokens, that the artifact is meant for and
            checked with; null: no limit but the model's; e.g. 1024
    """

    dtype: Literal["int8", "int4", "fp16"]
    attn_implementation: Literal["sdpa", "eager"] = "sdpa"
    max_length: int | None = Field(None, ge=16)
