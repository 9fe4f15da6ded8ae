"""Options of the OpenVINO converter: which are accepted, and by which key others are refused."""

from collections.abc import Mapping
from typing import Any

import pytest

from converters.openvino.options import Options
from phiforge.settings.blocks import read_block
from phiforge.settings.documents import ConfigurationError
from support.openvino_builds import FP16, INT4, INT8, NPU, PIPELINE_OPTIONS


@pytest.mark.parametrize("options", [FP16, INT8, INT4, NPU, {**NPU, "group_size": -1}])
def test_the_variants_options_are_accepted(options: Mapping[str, Any]) -> None:
    read_block(Options, options, "variants.yaml")


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({**INT8, "ratio": 0.6}, "ratio"),
        ({"weight_format": "int4", "symmetric": True, "ratio": 0.6}, "group_size"),
        ({**INT4, "gruop_size": 128}, "gruop_size"),
        ({**NPU, "symmetric": False}, "symmetric"),
        ({**NPU, "ratio": 0.6}, "ratio"),
        ({**NPU, "npu": {**PIPELINE_OPTIONS, "MAX_PROMT_LEN": 1}}, "MAX_PROMT_LEN"),
    ],
)
def test_a_mistake_in_an_option_names_its_key(options: Mapping[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        read_block(Options, options, "variants.yaml")
