"""What machine a measurement was made on; results are committed with it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "nncf",
    "onnxruntime",
    "onnxruntime-genai",
    "openvino",
    "optimum-intel",
    "torch",
    "transformers",
)


def facts() -> dict[str, Any]:
    """Processor, cores, memory, system and the packages that do the work."""
    return {
        "cpu": _processor(),
        "instruction_sets": sorted(_flags() & {"avx2", "avx512f", "avx512_bf16", "amx_tile"}),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
    }


def _cpuinfo(key: str) -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return ""


def _processor() -> str:
    return _cpuinfo("model name") or platform.processor()


def _flags() -> set[str]:
    return set(_cpuinfo("flags").split())
