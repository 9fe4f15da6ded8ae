"""Record how far OpenVINO's GPU plugin, in half precision on PoCL, is from float32 on the CPU.

    python benchmarks/half_precision.py artifacts/build/phi3-tiny fp16 int4 --work /big/disk/half

Without its fused attention (``GPU_ENABLE_SDPA_OPTIMIZATION``), which PoCL cannot run
(docs/without-the-hardware.md). It needs `make intel-gpu`; kernels that were compiled before stay
in ``--work``. The result is written to half_precision.json beside this file, in place of what was
measured before of the same. ``kl`` is the largest of a position, ``cpu_s`` of all processors.
"""

import argparse
import datetime
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from machine import facts

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from validators.intel_gpu_tree import command_in_tree  # noqa: E402

OPERATORS = ROOT / "tests/support/gpu_operators.py"
HALF = {
    "INFERENCE_PRECISION_HINT": "f16",
    "KV_CACHE_PRECISION": "f16",
    "GPU_ENABLE_SDPA_OPTIMIZATION": "NO",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("builds", type=Path, help="folder of a model's OpenVINO builds")
    parser.add_argument("variants", nargs="+", help="fp16, int8, int4, int4-awq")
    parser.add_argument("--tokens", type=int, nargs="+", default=[5, 12], help="of the prompts")
    parser.add_argument("--work", type=Path, required=True, help="folder for compiled kernels")
    arguments = parser.parse_args()
    (arguments.work / "kernels").mkdir(parents=True, exist_ok=True)
    into = Path(__file__).with_suffix(".json")
    done = json.loads(into.read_text(encoding="utf-8"))["runs"] if into.exists() else []
    for variant in arguments.variants:
        for tokens in arguments.tokens:
            payload = (arguments.builds / f"openvino-{variant}/payload").resolve()
            found = {
                "model": arguments.builds.name,
                "variant": f"openvino-{variant}",
                "tokens": tokens,
                **run(payload, tokens, arguments.work.resolve()),
            }
            print(found, flush=True)
            done = [*(one for one in done if identity(one) != identity(found)), found]
            result = {
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
                "machine": facts(),
                "properties": HALF,
                "runs": sorted(done, key=identity),
            }
            into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def identity(one: dict[str, Any]) -> tuple[str, str, int]:
    return one["model"], one["variant"], one["tokens"]


def run(payload: Path, tokens: int, work: Path) -> dict[str, Any]:
    """One prompt through the plugin and through the CPU's; the seconds are of both."""
    properties = [f"{name}={value}" for name, value in {**HALF, "TOKENS": tokens}.items()]
    command = command_in_tree([str(OPERATORS), str(payload), *properties], [payload], work, {})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    found = json.loads(done.stdout)
    return {"error": found["error"], "kl": found["kl"], "cpu_s": round(cpu_s, 1)}


if __name__ == "__main__":
    main()
