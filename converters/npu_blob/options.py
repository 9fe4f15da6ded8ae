"""Options of the NPU blob converter: how an NPU IR is compiled ahead of time."""

from typing import Literal

from converters.openvino.options import PipelineOptions


class Options(PipelineOptions):
    """`from:` names a variant with an npu block.

    Attributes:
        platform: NPU_PLATFORM, in quotes: 3720 (Meteor Lake, Arrow Lake), 4000 (Lunar Lake), 5010
            and 5020 (Panther Lake and later)
        cache_mode: CACHE_MODE: OPTIMIZE_SPEED puts the weights into the blob, OPTIMIZE_SIZE leaves
            them in the IR's .bin
    """

    platform: Literal["3720", "4000", "5010", "5020"]
    cache_mode: Literal["OPTIMIZE_SPEED", "OPTIMIZE_SIZE"]
