"""Record what checks on Microsoft's DirectML take, of receipts and Snakemake's benchmark files.

    snakemake --cores 2 artifacts/checks/phi3-tiny/genai-dml-{fp16,int4}/dml-software.json
    python benchmarks/full_size/make_model.py --into /big/disk/full --layers 4
    snakemake --cores 2 \\
        artifacts/checks/phi-3-mini-random-4-2-layers/genai-dml-{fp16,int4}/dml-software.json \\
        --config model_files=/big/disk/full/model.yaml models=phi-3-mini-random-4
    python benchmarks/directml.py phi3-tiny phi-3-mini-random-4-2-layers

Needs `make directml`; row dml-standin may be checked besides. A job's seconds are those of the wall
and of all processors; on a machine that does other work, the second are what counts. The result is
written to directml.json beside this file.
"""

import argparse
import csv
import datetime
import json
from pathlib import Path
from typing import Any

from machine import facts

ROOT = Path(__file__).parents[1]
ROWS = ("dml-software", "dml-standin")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="models that were checked in this folder")
    parser.add_argument("--artifacts", type=Path, default=ROOT / "artifacts", help="where")
    arguments = parser.parse_args()
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "checks": [
            check(path)
            for model in arguments.models
            for path in sorted((arguments.artifacts / "checks" / model).glob("genai-dml-*/*.json"))
            if path.stem in ROWS
        ],
    }
    into = Path(__file__).with_suffix(".json")
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(into.relative_to(ROOT))


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
