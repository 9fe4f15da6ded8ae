"""Check every honest variant with one and two processors, and under two instruction sets.

    .venv/bin/snakemake --cores 4 all
    .venv/bin/python -m benchmarks.honest_verdicts

Runs the command of rule ``check`` on every built variant and every row that is here, in each of
`ENVIRONMENTS`, and writes the verdicts and metrics to benchmarks/acceptance/honest-verdicts.json.
A verdict that depends on the agent's processor would show here.

Processors are taken away by affinity, which every thread pool heeds. ``ONEDNN_MAX_CPU_ISA``
(https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html) holds back OpenVINO's
oneDNN kernels; the record names those that ran. MLAS, which onnxruntime and some of OpenVINO's
float32 products use, asks the processor itself and has no such switch
(https://github.com/microsoft/onnxruntime, core/mlas/lib/platform.cpp), so ONNX variants are run
with the processor's own instruction set only, and the record says so.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from configuration.documents import read_yaml
from configuration.plan import availability, row_settings
from configuration.settings import Model, Settings, Variant, load
from records.errors import run_command
from records.offline import OFFLINE
from records.record import read_record, write_record

RECORD = Path("benchmarks/acceptance/honest-verdicts.json")
NOT_HELD_BACK = "onnxruntime's MLAS chooses by CPUID; no setting holds it back"
PROBED = "openvino-int4"

_KERNELS = """
import sys, openvino
core = openvino.Core()
compiled = core.compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
kinds = {str(op.get_rt_info()["primitiveType"].astype(str))
         for op in compiled.get_runtime_model().get_ops()}
print(*sorted(kind for kind in kinds if "avx" in kind))
"""


@dataclass(frozen=True)
class Environment:
    """How many processors a check may use, and what holds back its instruction set."""

    processors: int
    variables: Mapping[str, str]


_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
ENVIRONMENTS: Mapping[str, Environment] = {
    "one processor": Environment(1, {}),
    "two processors": Environment(2, {}),
    "one processor, AVX2": Environment(1, _AVX2),
    "two processors, AVX2": Environment(2, _AVX2),
}


def run(artifacts: Path, settings: Settings, model: Model) -> dict[str, Any]:
    """Every check in every environment; see the module."""
    verdicts: list[dict[str, Any]] = []
    not_measured: list[dict[str, str]] = []
    for variant, row in _checks(artifacts, settings, model):
        for name, environment in ENVIRONMENTS.items():
            where = {"variant": variant.name, "row": row, "environment": name}
            if environment.variables and variant.format == "onnx-genai":
                not_measured.append({**where, "why": NOT_HELD_BACK})
                continue
            receipt = _check(artifacts, settings, model, variant, row, environment)
            print(*where.values(), receipt["verdict"], receipt["reason"], sep="  ", flush=True)
            verdicts.append({**where, **_told(receipt)})
    return {
        "model": model.name,
        "machine": facts(),
        "environments": {
            name: {
                "processors": environment.processors,
                "variables": dict(environment.variables),
                f"kernels of {PROBED}": _kernels(artifacts, model, environment),
            }
            for name, environment in ENVIRONMENTS.items()
        },
        "verdicts": verdicts,
        "not_measured": not_measured,
    }


def _checks(artifacts: Path, settings: Settings, model: Model) -> Iterator[tuple[Variant, str]]:
    for variant in settings.variants.values():
        if (artifacts / "build" / model.name / variant.name / "payload").is_dir():
            for row in variant.devices:
                if availability(settings.devices[row]).available:
                    yield variant, row


def _check(
    artifacts: Path,
    settings: Settings,
    model: Model,
    variant: Variant,
    row: str,
    environment: Environment,
) -> Mapping[str, Any]:
    minimum = {"minimum_validated_tokens": model.minimum_validated_tokens}
    with tempfile.TemporaryDirectory(prefix="phiforge-verdict-") as scratch:
        receipt = Path(scratch) / "receipt.json"
        arguments = [
            "-m", "validators.check",
            "--model", model.name, "--variant", variant.name, "--row", row,
            "--row-config", json.dumps(row_settings(settings.devices[row], variant)),
            "--variant-config", json.dumps(_block(variant)),
            "--artifact", str(artifacts / "build" / model.name / variant.name),
            "--reference", str(artifacts / "reference" / model.name),
            "--golden", str(model.golden), "--acceptance", str(settings.acceptance),
            "--overrides", json.dumps({**model.acceptance, **minimum}),
            "--receipt", str(receipt),
        ]  # fmt: skip
        _python(environment, *arguments)
        return read_record(receipt)


def _block(variant: Variant) -> dict[str, Any]:
    """As rules/common.smk tells it."""
    return {
        "converter": variant.converter,
        "format": variant.format,
        "precision": variant.precision,
        "from": variant.base,
        "options": dict(variant.options),
    }


def _python(environment: Environment, *arguments: str) -> str:
    """Run Python on the first processors only; returns what it printed."""
    listed = ",".join(map(str, sorted(os.sched_getaffinity(0))[: environment.processors]))
    inherited = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        ["taskset", "-c", listed, sys.executable, *arguments],
        env={**inherited, **OFFLINE, **environment.variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def _kernels(artifacts: Path, model: Model, environment: Environment) -> list[str]:
    ir = artifacts / "build" / model.name / PROBED / "payload/openvino_model.xml"
    return _python(environment, "-c", _KERNELS, str(ir)).split()


def _told(receipt: Mapping[str, Any]) -> dict[str, Any]:
    golden = receipt["golden"]
    return {
        "precision": receipt["precision"],
        "verdict": receipt["verdict"],
        "failures": receipt["failures"],
        "golden_passed": sum(entry["passed"] is True for entry in golden),
        "golden_left_out": [entry["id"] for entry in golden if entry["not_run"]],
        "validated_tokens": receipt["validated_tokens"],
        "metrics": receipt["metrics"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.honest_verdicts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--model", default="phi3-tiny")
    parser.add_argument("--record", type=Path, default=RECORD)
    options = parser.parse_args()
    settings = load(read_yaml(Path("config/config.yaml")))
    write_record(options.record, run(options.artifacts, settings, settings.models[options.model]))


if __name__ == "__main__":
    run_command(main)
