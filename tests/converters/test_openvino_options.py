"""Options of the OpenVINO converter: what the schema takes, and by which key it refuses."""

from collections.abc import Mapping
from typing import Any

import pytest

from phiforge.settings.documents import ConfigurationError, validate
from support.openvino_options import FP16, INT4, INT8, NPU, PIPELINE_OPTIONS


@pytest.mark.parametrize("options", [FP16, INT8, INT4, NPU, {**NPU, "group_size": -1}])
def test_the_schema_takes_the_variants_options(options: Mapping[str, Any]) -> None:
    validate(options, "options/openvino", "variants.yaml")


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
def test_the_schema_refuses_others_by_key(options: Mapping[str, Any], key: str) -> None:
    with pytest.raises(ConfigurationError, match=key):
        validate(options, "options/openvino", "variants.yaml")
