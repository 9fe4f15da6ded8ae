"""Read in ONNX Runtime's own profile which execution provider ran the operators that matter.

The profile of a session is a JSON list of trace events. An operator that ran is an event of the
category ``Node`` whose name ends in ``_kernel_time``; its ``args`` give ``op_name`` and
``provider`` (https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html).

DirectML runs parts of a graph as one operator named ``DmlFusedNode_<n>_<m>``: what it swallowed
shows no events of its own, and what was left to the CPU still does.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from validators.contract import Proof, shown

PROVIDERS: Mapping[str, str] = {
    "CPU": "CPUExecutionProvider",
    "DML": "DmlExecutionProvider",
    "CUDA": "CUDAExecutionProvider",
    "WEBGPU": "WebGpuExecutionProvider",
}

Ran = Mapping[str, Mapping[str, int]]
"""Provider to operator to how often it ran."""

_FUSED = "DmlFusedNode_"
_NOTHING_HEAVY = "no matrix product and no attention"


def read_profile(file: Path) -> Ran:
    """Count the operators that ran, by provider.

    Raises:
        ValueError: the file is no complete profile.
    """
    ran: dict[str, Counter[str]] = {}
    for event in json.loads(file.read_text(encoding="utf-8")):
        details = event.get("args", {})
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            operator = str(details["op_name"])
            name = _FUSED.rstrip("_") if operator.startswith(_FUSED) else operator
            ran.setdefault(details["provider"], Counter())[name] += 1
    return {provider: dict(sorted(counts.items())) for provider, counts in sorted(ran.items())}


def genai_device(device_type: str) -> str:
    """Name the device of GenAI's ``device_type`` as rows do.

    >>> genai_device("DirectML"), genai_device("WebGPU")
    ('DML', 'WEBGPU')
    """
    return "DML" if device_type == "DirectML" else device_type.upper()


def heavy(operators: Iterable[str]) -> dict[str, list[str]]:
    """Return the operators among these that are nearly all the work, by kind.

    >>> heavy(["Cast", "MatMulNBits", "GroupQueryAttention", "MatMul"])
    {'matrix products': ['MatMul', 'MatMulNBits'], 'attention': ['GroupQueryAttention']}
    """
    names = sorted(set(operators))
    return {
        "matrix products": [name for name in names if "MatMul" in name or "Gemm" in name],
        "attention": [name for name in names if name.endswith("Attention")],
    }


def executor(ran: Ran) -> str:
    """Return the device whose provider ran every heavy operator; ``unknown``: several, or none."""
    devices = {
        device for device, provider in PROVIDERS.items() if _heavy_or_fused(ran.get(provider, {}))
    }
    strangers = any(_heavy_or_fused(ran[name]) for name in ran if name not in PROVIDERS.values())
    return devices.pop() if len(devices) == 1 and not strangers else "unknown"


def _heavy_or_fused(counts: Mapping[str, int]) -> bool:
    return any(heavy(counts).values()) or _FUSED.rstrip("_") in counts


def proofs(ran: Ran, device: str, graph: Iterable[str]) -> tuple[Proof, ...]:
    """Prove for each kind of heavy operator in ``graph`` that ``device`` alone ran it.

    Where another provider ran one, the failure is ``fell-back``.
    """
    found = []
    wanted = PROVIDERS[device]
    fused = _FUSED.rstrip("_") in ran.get(wanted, {})
    for kind, expected in heavy(graph).items():
        if not expected:
            continue
        by = {name: heavy(counts)[kind] for name, counts in ran.items() if heavy(counts)[kind]}
        seen = [f"{name} ran {', '.join(names)}" for name, names in by.items()]
        seen += [f"{wanted} ran fused parts"] if fused else []
        what = f"profile: {kind} run by {wanted}"
        if set(by) - {wanted}:
            found.append(shown(what, "; ".join(seen), holds=False, otherwise="fell-back"))
        else:
            holds = wanted in by or fused
            found.append(shown(what, "; ".join(seen) or f"{kind}: no event", holds))
    return tuple(found) or (shown("profile", f"the graph has {_NOTHING_HEAVY}", holds=False),)
