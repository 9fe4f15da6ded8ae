"""The official commands beside phiforge: the same five variants, one machine, one session.

    python benchmarks/compare.py --scratch /big/disk [--layers 8]

Makes a model of Phi-3-mini's exact shape with random weights (full_size/make_model.py) and then

1. for each variant in turn, the official command and phiforge's conversion, one after the other,
   each alone on the machine, and whether their constants are equal;
2. phiforge's five conversions as a user runs them: `snakemake --cores 4` on the five builds;
3. the floor: reading the source once from the disk and writing the five variants' bytes once.

The result goes to compare/<model>.json and .svg beside this file. The floor and all commands write
without waiting for the disk (no fsync), which the page cache allows to all of them alike. Needs
Linux and about 50 GB of disk; run it from a clean clone on an idle machine.
"""

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))

from compare_chart import draw
from constants import Comparison, compare_onnx, compare_openvino
from machine import facts
from measure import Usage, measure

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "TQDM_DISABLE": "1",
}

_EXPORT = ["optimum-cli", "export", "openvino", "--task", "text-generation-with-past"]
_BUILDER = ["python", "-m", "onnxruntime_genai.models.builder", "-e", "dml"]
_INT4_BLOCKS = ["block_size=32", "is_symmetric=true", "algo_config=default"]

OFFICIAL: dict[str, list[str]] = {
    "openvino-fp16": [*_EXPORT, "--weight-format", "fp16"],
    "openvino-int4": [
        *_EXPORT, "--weight-format", "int4", "--sym", "--group-size", "128", "--ratio", "0.6",
    ],
    "openvino-int4-npu": [
        *_EXPORT, "--weight-format", "int4", "--sym", "--group-size", "128", "--ratio", "1.0",
    ],
    "genai-dml-fp16": [*_BUILDER, "-p", "fp16", "--extra_options", "hf_token=false"],
    "genai-dml-int4": [*_BUILDER, "-p", "int4", "--extra_options", "hf_token=false", *_INT4_BLOCKS],
}  # fmt: skip
"""The guide's commands; input and output are added."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True, help="folder on a large disk")
    parser.add_argument("--layers", type=int, default=32, help="fewer layers: a quick version")
    arguments = parser.parse_args()
    scratch: Path = arguments.scratch.resolve()
    name = f"phi-3-mini-random-{arguments.layers}"
    model = _model(scratch, arguments.layers)
    _snakemake(model, [f"artifacts/source/{name}/SOURCE.json"], scratch / "fetch.log")
    shutil.rmtree(ROOT / "artifacts/build" / name, ignore_errors=True)
    rows = [_variant(variant, name, model, scratch) for variant in OFFICIAL]
    shutil.rmtree(ROOT / "artifacts/build" / name)
    targets = [f"artifacts/build/{name}/{variant}/BUILD.json" for variant in OFFICIAL]
    whole = _snakemake(model, targets, scratch / "whole.log")
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": name,
        "machine": facts(),
        "variants": rows,
        "together": {group or "all": usage.rounded() for group, usage in whole.items()},
        "floor": floor(name, scratch),
    }
    result["ratios"] = ratios(result)
    into = Path(__file__).parent / "compare"
    into.mkdir(exist_ok=True)
    (into / f"{name}.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    draw(result, into / f"{name}.svg")
    print(json.dumps(result["ratios"], indent=2))


def _model(scratch: Path, layers: int) -> Path:
    model = scratch / f"model-{layers}"
    if not (model / "model.yaml").is_file():
        shutil.rmtree(model, ignore_errors=True)
        maker = Path(__file__).parent / "full_size/make_model.py"
        command = [sys.executable, str(maker), "--into", str(model), "--layers", str(layers)]
        subprocess.run(command, check=True)
    return model / "model.yaml"


def _variant(variant: str, name: str, model: Path, scratch: Path) -> dict[str, Any]:
    """The official command, then ours alone, then their constants; the official one is removed."""
    source = ROOT / "artifacts/source" / name / "files"
    out = scratch / "official"
    shutil.rmtree(out, ignore_errors=True)
    print(f"{variant}: official", flush=True)
    official = _official(variant, source, out, scratch)
    print(f"{variant}: phiforge", flush=True)
    record = f"artifacts/build/{name}/{variant}/BUILD.json"
    ours = _snakemake(model, [record], scratch / f"{variant}.phiforge.log")[variant]
    payload = (ROOT / record).parent / "payload"
    compare = compare_openvino if variant.startswith("openvino") else compare_onnx
    comparison: Comparison = compare(payload, out)
    size_mb = sum(path.stat().st_size for path in payload.iterdir()) / 1e6
    shutil.rmtree(out)
    return {
        "variant": variant,
        "official": official.rounded(),
        "phiforge": ours.rounded(),
        "constants": asdict(comparison),
        "size_mb": round(size_mb, 1),
    }


def _official(variant: str, source: Path, out: Path, scratch: Path) -> Usage:
    program, *options = OFFICIAL[variant]
    if program == "optimum-cli":
        places = ["--model", str(source), *options[2:], str(out)]
        command = [str(BIN / program), *options[:2], *places]
    else:
        cache = str(scratch / "cache")
        command = [str(BIN / program), *options[:2], "-i", str(source), "-o", str(out)]
        command += ["-c", cache, *options[2:]]
    log = scratch / f"{variant}.official.log"
    usage = measure(command, log=log, environment=OFFLINE)[""]
    if usage.exit_code != 0:
        sys.exit(f"error: the official command of {variant} failed; read {log}")
    return usage


def _snakemake(model: Path, targets: Sequence[str], log: Path) -> dict[str, Usage]:
    """Run phiforge on ``targets``; one group of usage a conversion, by its variant."""
    command = [str(BIN / "snakemake"), "--cores", "4", *targets]
    command += ["--config", f"model_files={model}", f"models={_name(model)}"]
    usages = measure(command, log=log, group=_conversion, cwd=ROOT)
    if usages[""].exit_code != 0:
        sys.exit(f"error: snakemake failed; read {log}")
    return usages


def _name(model: Path) -> str:
    return str(yaml.safe_load(model.read_text())["name"])


def _conversion(command: Sequence[str]) -> str | None:
    """The variant that a process converts, if it is one of our conversions."""
    if "converters" in command and "--name" in command:
        return command[command.index("--name") + 1]
    return None


def floor(name: str, scratch: Path) -> dict[str, float]:
    """Seconds to read the source once and to write as much as was built, at this disk's speed."""
    block = bytearray(os.urandom(1 << 24))
    view = memoryview(block)
    read_bytes = 0
    os.sync()
    files = sorted((ROOT / "artifacts/source" / name / "files").glob("*.safetensors"))
    for path in files:
        with path.open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    started = time.monotonic()
    for path in files:
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(view):
                read_bytes += count
    read_s = time.monotonic() - started
    build = ROOT / "artifacts/build" / name
    write_bytes = sum(
        path.stat().st_size
        for variant in OFFICIAL
        for path in (build / variant / "payload").iterdir()
    )
    written = 0
    started = time.monotonic()
    with (scratch / "floor.bin").open("wb", buffering=0) as stream:
        while written < write_bytes:
            written += stream.write(view)
    write_s = time.monotonic() - started
    (scratch / "floor.bin").unlink()
    return {
        "read_mb": round(read_bytes / 1e6, 1),
        "read_s": round(read_s, 2),
        "written_mb": round(written / 1e6, 1),
        "write_s": round(write_s, 2),
    }


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """The table of what must be reached: ours over theirs, smaller is better."""
    rows = {row["variant"]: row for row in result["variants"]}
    jobs = {name: usage for name, usage in result["together"].items() if name in rows}
    wall = result["together"]["all"]["wall_s"]
    official_wall = sum(row["official"]["wall_s"] for row in rows.values())

    def highest(measure: str) -> float:
        ours = [row["phiforge"][measure] for row in rows.values()]
        ours += [usage[measure] for usage in jobs.values()]
        return max(ours) / max(row["official"][measure] for row in rows.values())

    def alone(variant: str) -> float:
        return float(rows[variant]["phiforge"]["wall_s"] / rows[variant]["official"]["wall_s"])

    found = {
        "five variants, wall time": wall / official_wall,
        "peak anonymous memory of a job": highest("peak_anonymous_mb"),
        "peak resident memory of a job": highest("peak_resident_mb"),
        "DML INT4 from FP16": alone("genai-dml-int4"),
        "OpenVINO INT4 derived": alone("openvino-int4"),
        "five variants against the floor": wall
        / (result["floor"]["read_s"] + result["floor"]["write_s"]),
    }
    return {name: round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main()
