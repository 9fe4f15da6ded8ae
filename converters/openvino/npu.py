"""The NPU profile: how an NPU variant is meant to be run, as JSON beside its IR."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from phiforge.artifact.payload_files import NPU_PROFILE
from phiforge.artifact.record import write_record


def write_npu_profile(
    into: Path, pipeline_options: Mapping[str, Any], recipe: Mapping[str, Any]
) -> None:
    """Write ``npu-profile.json``.

    ``pipeline_options`` are passed as they are:
    ``openvino_genai.LLMPipeline(folder, "NPU", **pipeline_options)``.
    """
    write_record(
        into / NPU_PROFILE,
        {
            "schema": "phiforge/npu-profile/1",
            "device": "NPU",
            "pipeline_options": dict(pipeline_options),
            "openvino": version("openvino"),
            "nncf": version("nncf"),
            "quantization": {
                key: recipe[key]
                for key in ("mode", "group_size", "ratio", "all_layers", "backup_mode", "awq")
            },
        },
    )
