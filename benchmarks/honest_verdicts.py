"""Check every honest variant with one and two processors, and under two instruction sets.

    .venv/bin/snakemake --cores 4 all
    .venv/bin/python -m benchmarks.honest_verdicts

Observes and judges every built variant on every row that executes it on the CPU, as
``validators.check`` does, in each of `ENVIRONMENTS`; verdicts and metrics go to
benchmarks/acceptance/honest-verdicts.json. A verdict that depends on the agent's processor would
show here. Left out are the lint, which does not depend on it, and the speed, which is not judged:
it runs with the runtime's own numerics, and OpenVINO asks the processor itself for bfloat16, which
a held-back oneDNN does not have.

The NPU's stand-in is held back to AVX2 with VNNI, which every Core Ultra has: with plain AVX2,
OpenVINO asks oneDNN for a product that it then does not have, and does not compile the model.

Processors are taken away by affinity, which every thread pool heeds. ``ONEDNN_MAX_CPU_ISA``
(https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html) holds back OpenVINO's
oneDNN kernels; the record names those that ran. MLAS, which onnxruntime and some of OpenVINO's
float32 products use, asks the processor itself and has no such switch
(https://github.com/microsoft/onnxruntime, core/mlas/lib/platform.cpp), so ONNX variants are run
with the processor's own instruction set only, and the record says so.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.machine import facts
from phiforge.artifact.record import read_record, write_record
from phiforge.errors import run_command
from phiforge.offline import OFFLINE, go_offline
from phiforge.settings.documents import read_yaml
from phiforge.settings.limits import declared_limits
from phiforge.settings.models import Model
from phiforge.settings.plan import blocked_row, row_of
from phiforge.settings.settings import Settings, load
from phiforge.settings.variants import Variant

RECORD = Path("benchmarks/acceptance/honest-verdicts.json")
NOT_HELD_BACK = "onnxruntime's MLAS chooses by CPUID; no setting holds it back"
PROBED = "openvino-int4"
_LISTS = ("verdicts", "not_measured")

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
_NPU_AVX2 = {"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}
ENVIRONMENTS: Mapping[str, Environment] = {
    "one processor": Environment(1, {}),
    "two processors": Environment(2, {}),
    "one processor, AVX2": Environment(1, _AVX2),
    "two processors, AVX2": Environment(2, _AVX2),
}


def run(
    artifacts: Path, settings: Settings, model: Model, only: Sequence[str] | None
) -> dict[str, Any]:
    """Every check in every environment; see the module."""
    verdicts: list[dict[str, Any]] = []
    not_measured: list[dict[str, str]] = []
    for variant, row in _checks(artifacts, settings, model):
        if only and variant.name not in only:
            continue
        for name, environment in ENVIRONMENTS.items():
            where = {"variant": variant.name, "row": row, "environment": name}
            if environment.variables and variant.format == "onnx-genai":
                not_measured.append({**where, "why": NOT_HELD_BACK})
                continue
            used = environment
            if environment.variables and row == "npu-standin":
                used = replace(environment, variables=_NPU_AVX2)
            told = _check(artifacts, model, variant, row, used)
            print(*where.values(), told["verdict"], told["failures"], sep="  ", flush=True)
            verdicts.append({**where, **told})
    return {
        "model": model.name,
        "machine": facts(),
        "environments": {
            name: {
                "processors": environment.processors,
                "variables": dict(environment.variables),
                "variables of npu-standin": dict(_NPU_AVX2) if environment.variables else {},
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
                device = settings.devices[row]
                elsewhere = row_of(device, variant).environment
                runs = blocked_row(device, settings.tools) is None
                if runs and device.executes == "CPU" and elsewhere is None:
                    yield variant, row


def _check(
    artifacts: Path, model: Model, variant: Variant, row: str, environment: Environment
) -> dict[str, Any]:
    arguments = ["--artifacts", str(artifacts), "--model", model.name, "one", variant.name, row]
    printed = _python(environment, "-m", "benchmarks.honest_verdicts", *arguments)
    told: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return told


def one(
    artifacts: Path, settings: Settings, model: Model, variant: Variant, row: str
) -> dict[str, Any]:
    """Observe and judge one variant in this process."""
    from validators.acceptance import load_gates
    from validators.evaluation import evaluate
    from validators.golden import load_golden
    from validators.left_out import left_out
    from validators.reference_tree import RECORD, load_reference
    from validators.worker import run_prompts

    device = row_of(settings.devices[row], variant)
    module = importlib.import_module(f"validators.runtimes.{device.runtime}")
    payload = artifacts / "build" / model.name / variant.name / "payload"
    reference = load_reference(artifacts / "reference" / model.name)
    golden = load_golden(model.golden)
    record = read_record(artifacts / "reference" / model.name / RECORD)
    limits = declared_limits(variant.options, device.settings)
    minimum = {"minimum_validated_tokens": model.minimum_validated_tokens}
    gates = load_gates(settings.acceptance, variant.precision, minimum, record["simulated"])
    with tempfile.TemporaryDirectory(prefix="phiforge-verdict-") as scratch:
        seen = run_prompts(
            module.open_runtime, {}, payload, device.settings, reference, golden,
            Path(scratch) / "DOING", skipped=left_out(record, limits),
            limits=limits,
        )  # fmt: skip
    found = evaluate(
        seen, reference, golden, precision=variant.precision, executor=device.executes, gates=gates
    )
    return {
        "precision": variant.precision,
        "verdict": "failed" if found.failures else "passed",
        "failures": [asdict(failure) for failure in found.failures],
        "golden_passed": sum(entry["passed"] is True for entry in found.golden),
        "golden_left_out": [entry["id"] for entry in found.golden if entry["not_run"]],
        "validated_tokens": found.validated_tokens,
        "metrics": None if found.metrics is None else asdict(found.metrics),
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


def _with_the_others(measured: dict[str, Any], record: Path) -> dict[str, Any]:
    """``measured``, and what ``record`` holds of other variants on the same machine."""
    old = read_record(record) if record.is_file() else {}
    if old.get("machine") != measured["machine"] or old["model"] != measured["model"]:
        return measured
    again = {entry["variant"] for key in _LISTS for entry in measured[key]}
    for key in _LISTS:
        kept = [entry for entry in old[key] if entry["variant"] not in again]
        measured[key] = [*kept, *measured[key]]
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.honest_verdicts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--model", default="phi3-tiny")
    parser.add_argument("--record", type=Path, default=RECORD)
    parser.add_argument("--variants", nargs="*", help="only these; the record keeps the others")
    one_of = parser.add_subparsers(dest="step").add_parser("one", help="one check, as JSON")
    one_of.add_argument("variant")
    one_of.add_argument("row")
    options = parser.parse_args()
    settings = load(read_yaml(Path("config/config.yaml")))
    model = settings.models[options.model]
    if options.step == "one":
        go_offline()
        variant = settings.variants[options.variant]
        print(json.dumps(one(options.artifacts, settings, model, variant, options.row)))
    else:
        measured = run(options.artifacts, settings, model, options.variants)
        write_record(options.record, _with_the_others(measured, options.record))


if __name__ == "__main__":
    run_command(main)
