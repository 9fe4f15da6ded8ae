"""Compile Phi-3-mini's exact shape for each NPU generation, twice, and record time and memory.

    python benchmarks/full_size/make_model.py --into /big/disk/full
    snakemake --cores 4 artifacts/build/phi-3-mini-random-32/openvino-int4-npu/BUILD.json \\
        --config model_files=/big/disk/full/model.yaml models=phi-3-mini-random-32
    python benchmarks/npu_compiler.py --payload \\
        artifacts/build/phi-3-mini-random-32/openvino-int4-npu/payload --scratch /big/disk/scratch

Needs `make npu-compiler`. Each compilation runs as the converter runs it; its second run is in
another folder and on one core, and must give the same bytes. The result and a chart are written
into benchmarks/npu_compiler/.
"""

import argparse
import datetime
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot

from machine import facts
from measure import measure

ROOT = Path(__file__).parents[1]
INTO = Path(__file__).parent / "npu_compiler"
PLATFORMS = ("3720", "4000", "5010")
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from converters.npu_blob import convert
from phiforge.npu_compiler import wine
payload, into, options = sys.argv[2:]
convert(Path(), Path(into), options=json.loads(options), base=Path(payload),
        tools={"npu_compiler": wine.installed()})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--payload", type=Path, required=True, help="payload of openvino-int4-npu")
    parser.add_argument("--scratch", type=Path, required=True, help="folder on a large disk")
    parser.add_argument("--model", default="phi-3-mini-random-32", help="name of the result")
    arguments = parser.parse_args()
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": arguments.model,
        "machine": facts(),
        "platforms": [
            compiled(arguments.payload, arguments.scratch, platform) for platform in PLATFORMS
        ],
    }
    INTO.mkdir(exist_ok=True)
    path = INTO / f"{arguments.model}.json"
    path.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    draw(result, path.with_suffix(".svg"))
    print(path.relative_to(ROOT))


def compiled(payload: Path, scratch: Path, platform: str) -> dict[str, Any]:
    """Compile twice, and return the larger usage and what both runs wrote."""
    options = {
        "platform": platform,
        "cache_mode": "OPTIMIZE_SPEED",
        "MAX_PROMPT_LEN": 1024,
        "MIN_RESPONSE_LEN": 128,
        "PREFILL_HINT": "DYNAMIC",
        "GENERATE_HINT": "FAST_COMPILE",
    }
    labels, usages = [], []
    for run, before in (("first", []), ("second run's folder", ["taskset", "--cpu-list", "0"])):
        into = scratch / run
        shutil.rmtree(into, ignore_errors=True)
        into.mkdir(parents=True)
        command = [*before, sys.executable, "-c", PROGRAM, str(ROOT), str(payload.resolve())]
        command += [str(into), json.dumps(options)]
        usage = measure(command, log=scratch / "log.txt")[""]
        if usage.exit_code != 0:
            raise SystemExit((scratch / "log.txt").read_text())
        labels.append(json.loads((into / "npu-blob.json").read_text()))
        usages.append(usage.rounded())
        print(platform, run, usages[-1], flush=True)
        shutil.rmtree(into)
    first, second = labels
    digests = [label["blob"]["sha256"] for label in labels]
    return {
        "platform": platform,
        "interface": first["interface"],
        "submodels": first["submodels"],
        "blob_bytes": first["blob"]["size"],
        "blob_sha256": digests,
        "same_bytes_twice": first == second,
        "runs": usages,
    }


def draw(result: dict[str, Any], into: Path) -> None:
    """Write an SVG of time and memory by generation, whose bytes depend on ``result`` alone."""
    matplotlib.rcParams["svg.hashsalt"] = result["model"]
    names = [row["platform"] for row in result["platforms"]]
    figure, axes = pyplot.subplots(1, 2, figsize=(8, 2.2), sharey=True)
    for axis, (measured, label, scale) in zip(
        axes,
        (("wall_s", "seconds", 1.0), ("peak_resident_mb", "GB, peak resident", 1e-3)),
        strict=True,
    ):
        values = [max(run[measured] for run in row["runs"]) * scale for row in result["platforms"]]
        bars = axis.barh(names, values, 0.6, color="#2f6f9f")
        axis.bar_label(bars, fmt="%.0f" if scale == 1.0 else "%.1f", padding=2, fontsize=8)
        axis.set_xlabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.15)
    axes[0].invert_yaxis()
    machine = f"{result['machine']['cores']} cores, {result['date']}"
    figure.suptitle(f"openvino-int4-npu of {result['model']}, compiled; {machine}", fontsize=9)
    figure.tight_layout()
    figure.savefig(into, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
