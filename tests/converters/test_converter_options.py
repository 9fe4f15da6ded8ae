"""Options of the converters: a mistake is refused by its key, before anything is converted."""

from collections.abc import Mapping
from typing import Any

import pytest

from converters.npu_blob.options import Options as NpuBlob
from converters.onnx_genai.options import Options as OnnxGenai
from converters.openvino.options import Options as Openvino
from phiforge.settings.blocks import Block, read_block
from phiforge.settings.documents import ConfigurationError
from support.jobs import SETTINGS
from support.openvino_builds import INT4, INT8, NF4, NPU, PIPELINE_OPTIONS

BLOB = SETTINGS.variants["npu-blob-4000"].options
FP16 = {"precision": "fp16", "execution_provider": "dml"}
DML = {"precision": "int4", "execution_provider": "dml"}


@pytest.mark.parametrize(
    ("options", "mistaken", "message"),
    [
        (Openvino, {**INT8, "ratio": 0.6}, "ratio"),
        (Openvino, {"weight_format": "int4", "symmetric": True, "ratio": 0.6}, "group_size"),
        (Openvino, {**INT4, "gruop_size": 128}, "gruop_size"),
        (Openvino, {**NPU, "symmetric": False}, "symmetric"),
        (Openvino, {**NPU, "ratio": 0.6}, "ratio"),
        (Openvino, {**INT4, "placed": 5.67}, "group_size.*no meaning beside 'placed'"),
        (Openvino, {"weight_format": "int4", "placed": 4.0}, "placed.*4.25"),
        (Openvino, {**NF4, "symmetric": True}, "symmetric.*no meaning for weight_format nf4"),
        (Openvino, {"weight_format": "nf4", "ratio": 1.0}, "group_size"),
        (Openvino, {**NF4, "group_size": 128, "npu": PIPELINE_OPTIONS}, "channel by channel"),
        (Openvino, {**NPU, "npu": {**PIPELINE_OPTIONS, "MAX_PROMT_LEN": 1}}, "MAX_PROMT_LEN"),
        (OnnxGenai, {**FP16, "block_size": 32}, "block_size.*take precision int4"),
        (OnnxGenai, {**FP16, "execution_provider": "cpu"}, "no float16 graph for the CPU"),
        (OnnxGenai, {**DML, "int4_block_size": 32}, "unknown key 'int4_block_size'"),
        (OnnxGenai, {**DML, "block_size": 33}, "block_size.*33"),
        (NpuBlob, {**BLOB, "platform": "4001"}, "platform"),
        (NpuBlob, {**BLOB, "made_for": "CPU"}, "made_for"),
        (NpuBlob, {**BLOB, "cache_mode": "x"}, "cache_mode"),
    ],
)
def test_a_mistake_in_an_option_names_its_key(
    options: type[Block], mistaken: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_block(options, mistaken, "variants.yaml")
