"""Options of the OpenVINO converter, as variants give them."""

FP16 = {"weight_format": "fp16"}
INT8 = {"weight_format": "int8"}
INT4 = {"weight_format": "int4", "symmetric": True, "group_size": 128, "ratio": 0.6}
PIPELINE_OPTIONS = {
    "MAX_PROMPT_LEN": 256,
    "MIN_RESPONSE_LEN": 32,
    "PREFILL_HINT": "DYNAMIC",
    "GENERATE_HINT": "FAST_COMPILE",
}
NPU = {**INT4, "ratio": 1.0, "npu": PIPELINE_OPTIONS}
