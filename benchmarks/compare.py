"""The official commands beside phiforge: the same five variants, one machine, one session.

    python benchmarks/compare.py --scratch /big/disk [--layers 8]

Makes a model of Phi-3-mini's exact shape with random weights (full_size/make_model.py) and then

1. for each variant in turn, the official command and phiforge's conversion, one after the other,
   each alone on the machine, and whether their constants are equal;
2. phiforge's five conversions as a user runs them: `snakemake --cores 4` on the five builds;
3. the reference of the model, once, and one check of each of the five, on 256 positions, and apart
   the model's own calibration, which is part of the reference's job;
4. the floor: reading the source once from the disk and writing the five variants' bytes once,
   through the page cache as all commands do, and once more past it (O_DIRECT), for comparison.

The result goes to compare/<model>.json and .svg beside this file. The floor and all commands write
without waiting for the disk (no fsync), which the page cache allows to all of them alike. Needs
Linux and about 60 GB of disk; run it from a clean clone on an idle machine. `--only checks` repeats
steps 3 and 4 on the builds that are there, and leaves the rest of the result as it was; the floor
of the conversions stays their own run's, and the other is recorded beside it.
"""

import argparse
import datetime
import json
import mmap
import os
import re
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

ROWS = {
    "openvino-fp16": "cpu",
    "openvino-int4": "cpu",
    "openvino-int4-npu": "npu-standin",
    "genai-dml-fp16": "dml-standin",
    "genai-dml-int4": "dml-standin",
}
"""The row of each variant's check that runs on any machine."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", type=Path, required=True, help="folder on a large disk")
    parser.add_argument("--layers", type=int, default=32, help="fewer layers: a quick version")
    parser.add_argument("--only", choices=["checks"], help="not the conversions once more")
    arguments = parser.parse_args()
    scratch: Path = arguments.scratch.resolve()
    name = f"phi-3-mini-random-{arguments.layers}"
    model = _model(scratch, arguments.layers)
    into = Path(__file__).parent / "compare"
    into.mkdir(exist_ok=True)
    written = into / f"{name}.json"
    if arguments.only == "checks":
        result = json.loads(written.read_text()) | {"checks_in_a_run_of_their_own": True}
    else:
        result = _conversions(name, model, scratch)
        _write(result, written)
    result["checks"] = _checks(name, model, scratch)
    measured = "floor_minutes_later" if arguments.only else "floor"
    result[measured] = floor(name, scratch)
    result["ratios"] = ratios(result)
    _write(result, written)
    draw(result, into / f"{name}.svg")
    print(json.dumps(result["ratios"], indent=2))


def _write(result: dict[str, Any], into: Path) -> None:
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")


def _conversions(name: str, model: Path, scratch: Path) -> dict[str, Any]:
    _snakemake(model, [f"artifacts/source/{name}/SOURCE.json"], scratch / "fetch.log")
    shutil.rmtree(ROOT / "artifacts/build" / name, ignore_errors=True)
    rows = [_variant(variant, name, model, scratch) for variant in OFFICIAL]
    shutil.rmtree(ROOT / "artifacts/build" / name)
    targets = [f"artifacts/build/{name}/{variant}/BUILD.json" for variant in OFFICIAL]
    whole = _snakemake(model, targets, scratch / "whole.log")
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "model": name,
        "machine": facts(),
        "variants": rows,
        "together": _named(whole),
    }


def _checks(name: str, model: Path, scratch: Path) -> dict[str, Any]:
    """Reference and checks of what has been built; a verdict that is not ``passed`` ends it."""
    for folder in ("reference", "checks"):
        shutil.rmtree(ROOT / "artifacts" / folder / name, ignore_errors=True)
    receipts = [f"artifacts/checks/{name}/{variant}/{row}.json" for variant, row in ROWS.items()]
    usages = _snakemake(model, receipts, scratch / "checks.log")
    for receipt in receipts:
        found = json.loads((ROOT / receipt).read_text())
        if found["verdict"] != "passed":
            sys.exit(f"error: {receipt}: {found['verdict']}: {found['reason']}")
    said = (ROOT / f"artifacts/logs/reference/{name}.log").read_text()
    [seconds] = re.findall(r"^calibration: ([0-9.]+) s$", said, re.MULTILINE)
    return {**_named(usages), "calibration": {"wall_s": float(seconds)}}


def _named(usages: dict[str, Usage]) -> dict[str, dict[str, float]]:
    """By job, and ``all`` without bytes, which the kernel counts for children and parents alike."""
    named = {group or "all": usage.rounded() for group, usage in usages.items()}
    for moved in ("read_mb", "written_mb"):
        del named["all"][moved]
    return named


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
    """Run phiforge on ``targets``; one group of usage a job, by its variant or name."""
    command = [str(BIN / "snakemake"), "--cores", "4", *targets]
    command += ["--config", f"model_files={model}", f"models={_name(model)}"]
    usages = measure(command, log=log, group=_job, cwd=ROOT)
    if usages[""].exit_code != 0:
        sys.exit(f"error: snakemake failed; read {log}")
    return usages


def _name(model: Path) -> str:
    return str(yaml.safe_load(model.read_text())["name"])


def _job(command: Sequence[str]) -> str | None:
    """What a process converts or checks, if it is one of those jobs."""
    name = next((word for word in command if word in ("convert", "reference", "check")), None)
    if "phiforge" not in command or name is None:
        return None
    job = Path(command[command.index(name) + 1])  # artifacts/jobs/check/MODEL.VARIANT.ROW.json
    return "reference" if name == "reference" else job.name.split(".")[-2 - (name == "check")]


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
    written = write_bytes // len(block) * len(block)
    seconds = {
        key: _write_s(scratch / "floor.bin", written, flags)
        for key, flags in (("write_s", 0), ("write_direct_s", os.O_DIRECT))
    }
    return {
        "read_mb": round(read_bytes / 1e6, 1),
        "read_s": round(read_s, 2),
        "written_mb": round(written / 1e6, 1),
        **seconds,
    }


def _write_s(path: Path, size: int, flags: int) -> float:
    os.sync()
    block = mmap.mmap(-1, 1 << 24)  # aligned to pages, as O_DIRECT asks
    block.write(os.urandom(1 << 24))
    started = time.monotonic()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | flags)
    for _ in range(size // len(block)):
        os.write(file, block)
    os.close(file)
    seconds = time.monotonic() - started
    path.unlink()
    return round(seconds, 2)


def ratios(result: dict[str, Any]) -> dict[str, float]:
    """The table of what must be reached: ours over theirs, smaller is better."""
    rows = {row["variant"]: row for row in result["variants"]}
    jobs = {name: usage for name, usage in result["together"].items() if name in rows}
    wall = result["together"]["all"]["wall_s"]
    official_wall = sum(row["official"]["wall_s"] for row in rows.values())
    checks = {name: usage["wall_s"] for name, usage in result["checks"].items()}
    calibration = checks["calibration"]

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
        "reference and five checks against the official conversions": (checks["all"] - calibration)
        / official_wall,
        "calibration against the reference": calibration / (checks["reference"] - calibration),
    }
    return {name: round(value, 3) for name, value in found.items()}


if __name__ == "__main__":
    main()
