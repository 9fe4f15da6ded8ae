"""Record what checks on Microsoft's DirectML and OpenVINO's GPU plugin take on a CPU.

    snakemake --cores 2 artifacts/checks/phi3-tiny/genai-dml-{fp16,int4}/dml-software.json
    python benchmarks/full_size/make_model.py --into /big/disk/full --layers 4
    snakemake --cores 2 \\
        artifacts/checks/phi-3-mini-random-4-2-layers/genai-dml-{fp16,int4}/dml-software.json \\
        --config model_files=/big/disk/full/model.yaml models=phi-3-mini-random-4
    python benchmarks/without_hardware.py directml phi3-tiny phi-3-mini-random-4-2-layers

The figures are those of receipts and of Snakemake's benchmark files. It needs `make directml`, or
for ``intel_gpu`` (openvino-{fp16,int8,int4,int4-awq}/gpu-software.json) `make intel-gpu`; the rows
dml-standin and gpu-standin may be checked besides. Delete .intel-gpu/kernels.zip first for what
``--kernels compiled`` records; a second run finds them ``kept``. A job's seconds are those of the
wall and of all processors; on a machine that does other work, the second are what counts. The
result is written to directml.json or intel_gpu.json beside this file, in place of what was measured
before of the same checks.
"""

import argparse
import csv
import datetime
import json
from pathlib import Path
from typing import Any

from machine import facts

ROOT = Path(__file__).parents[1]
CHECKS = {
    "directml": ("genai-dml-*", ("dml-software", "dml-standin")),
    "intel_gpu": ("openvino-*", ("gpu-software", "gpu-standin")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", choices=CHECKS, help="what was checked on")
    parser.add_argument("models", nargs="+", help="models that were checked in this folder")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "artifacts", help="where")
    parser.add_argument("--kernels", choices=("compiled", "kept"), help="the GPU plugin's")
    arguments = parser.parse_args()
    variants, rows = CHECKS[arguments.tree]
    found = [
        check(path) | ({"kernels": arguments.kernels} if path.stem == "gpu-software" else {})
        for model in arguments.models
        for path in sorted((arguments.artifacts / "checks" / model).glob(f"{variants}/*.json"))
        if path.stem in rows
    ]
    into = Path(__file__).with_name(f"{arguments.tree}.json")
    earlier = json.loads(into.read_text(encoding="utf-8"))["checks"] if into.exists() else []
    new = {identity(one) for one in found}
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "checks": sorted(
            [*found, *(one for one in earlier if identity(one) not in new)], key=identity
        ),
    }
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(into.relative_to(ROOT))


def identity(one: dict[str, Any]) -> tuple[str, str]:
    """What a later measurement takes the place of."""
    return one["check"], one.get("kernels", "")


def check(path: Path) -> dict[str, Any]:
    """Time, peak resident memory and agreement of one check."""
    receipt = json.loads(path.read_text(encoding="utf-8"))
    name = f"{receipt['model']}.{receipt['variant']}.{receipt['device']}.tsv"
    with (path.parents[3] / "benchmarks/check" / name).open(encoding="utf-8") as stream:
        usage = next(csv.DictReader(stream, delimiter="\t"))
    answers = [one["answer"] for one in receipt["golden"] if one["answer"]]
    return {
        "check": f"{receipt['model']} {receipt['variant']} {receipt['device']}",
        "verdict": receipt["verdict"],
        "wall_s": float(usage["s"]),
        "cpu_s": float(usage["cpu_time"]),
        "peak_resident_mb": float(usage["max_rss"]),
        "metrics": receipt["metrics"],
        "answers": len(answers),
        "answers_as_the_reference": sum(one["diverges_at"] is None for one in answers),
    }


if __name__ == "__main__":
    main()
