"""Properties that make OpenVINO compile an IR as OpenVINO GenAI's pipeline does for an NPU."""

from collections.abc import Mapping
from typing import Any

# https://github.com/openvinotoolkit/openvino.genai src/cpp/src/utils.cpp (update_npu_config,
# compile_decoder_for_npu) adds these to what its user gives, and puts NPUW_LLM_ before the user's
# pipeline options. tests/converters/test_npu_properties.py holds the graphs against the pipeline's.
_OF_THE_PIPELINE: Mapping[str, str] = {
    "NPU_USE_NPUW": "YES",
    "NPUW_LLM": "YES",
    "NPUW_LLM_BATCH_DIM": "0",
    "NPUW_LLM_SEQ_LEN_DIM": "2",
}

ON_CPU: Mapping[str, str] = {
    "NPUW_ONLINE_PIPELINE": "NONE",
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f16",
}
"""Properties that let the CPU take the NPU's place, after OpenVINO GenAI's own tests: the
partitioner needs deep models, and the key-value cache of the static pipeline is float16 at the
finest."""


def weights_bank(weights_sha256: str) -> str:
    """Name NPUW's bank of weights after the weights.

    NPUW shares the banks of equal names within a process, and gives a random name to one without,
    which goes into the blob.
    """
    return f"phiforge-{weights_sha256[:32]}"


def compile_properties(
    pipeline_options: Mapping[str, Any],
    *,
    platform: str,
    cache_mode: str,
    weights_bank: str,
    devices: str = "NPU",
) -> dict[str, str]:
    """Return the properties of ``compile_model(ir, "NPU", …)``, in the order they are given.

    Args:
        pipeline_options: of npu-profile.json: MAX_PROMPT_LEN, MIN_RESPONSE_LEN and the two hints.
        platform: NPU_PLATFORM, such as ``4000``.
        cache_mode: ``OPTIMIZE_SPEED``: the blob holds the weights; ``OPTIMIZE_SIZE``: it does not.
        weights_bank: name of NPUW's bank (`weights_bank`).
        devices: ``NPU``; or ``CPU``, which takes its place in tests.
    """
    return {
        **_OF_THE_PIPELINE,
        **{f"NPUW_LLM_{name}": str(value) for name, value in pipeline_options.items()},
        "NPUW_DEVICES": devices,
        "NPU_COMPILER_TYPE": "PLUGIN",
        "NPU_PLATFORM": platform,
        "CACHE_MODE": cache_mode,
        "NPUW_WEIGHTS_BANK": weights_bank,
        **(ON_CPU if devices == "CPU" else {}),
    }
