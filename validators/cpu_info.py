"""Describe the processor that a check ran on: without it a speed says little."""

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "NPY_DISABLE_CPU_FEATURES", "OMP_NUM_THREADS")


def cpu_info() -> dict[str, Any]:
    """Return its name, instruction sets as NumPy groups them, threads, and limiting variables."""
    extensions = np.show_config(mode="dicts")["SIMD Extensions"]
    return {
        "name": _name(),
        "instruction_sets": [*extensions.get("baseline", []), *extensions.get("found", [])],
        "threads": threads(),
        "limited_by": {name: os.environ[name] for name in _LIMITS if name in os.environ},
    }


def threads() -> int:
    """Return the number of hardware threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
