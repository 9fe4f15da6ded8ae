"""Measure honest and sabotaged artifacts of two models and set the gates between them.

    .venv/bin/snakemake --cores 4 all
    .venv/bin/python -m benchmarks.calibrate_acceptance measure
    .venv/bin/python -m benchmarks.calibrate_acceptance measure --model-file …/model.yaml
    .venv/bin/python -m benchmarks.calibrate_acceptance gates
    .venv/bin/python -m benchmarks.calibrate_acceptance stability

``measure`` scores every built variant, honest on every row that runs here, then with every
sabotage of benchmarks/sabotage.py on one row, and writes benchmarks/acceptance/<model>.json: each
measurement, and per precision and metric the margins between the worst honest value, the model's
gate and the mildest sabotage. What is as mild as rounding (scales, bits, a RoPE base 5 % off)
sets no gate and is recorded apart: formulas and the theorem of rounding judge it
(validators/lint). Sabotages of weights and of the tokens' order count for the fidelity to the
source; those of arithmetic, for ``execution_kl``, which compares with float32 arithmetic and
the artifact's own weights. Its gate depends on whether numerics are pinned to float32, so there is
a row for each. Sabotaged NPU variants run as plain IRs on the row cpu: it is the same graph, and
the static pipeline gives its logits one token at a time. ``--variants`` measures some only.
``--model-file`` is an outside model's, such as the tests' second one (support/second_model.py).
``stability`` runs the reference with other threads and instruction sets and writes how far it
moves. ``gates`` derives config/acceptance.yaml from phi3-tiny's measurements alone. Per precision
and metric:

- the worst honest value, over variants and rows. OpenVINO artifacts also run once with the
  processor's own numerics (bfloat16 where it has it, a quantized key-value cache) instead of the
  pinned ones, those of the NPU as plain IRs (NF4 only, so far): a real device computes no finer,
  and its honest receipts must pass as well;
- the mildest sabotage, over variants and sabotages;
- the gate: the geometric mean of the two for KL divergences and perplexity ratios, the middle
  for the agreement. A metric whose two values are too near to each other (`APART`) is reported
  and not judged.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.acceptance_gates import (
    GATES,
    HONEST,
    MEASURED,
    RECORDS,
    TINY,
    acceptance_text,
    margins,
)
from phiforge.artifact.record import read_record, write_record, write_text
from phiforge.errors import run_command
from phiforge.offline import go_offline

if TYPE_CHECKING:
    from phiforge.jobs import Limits
    from phiforge.settings.settings import Settings

STABLE = Path("benchmarks/acceptance/reference-stability.json")

TOOLCHAIN = (
    "torch", "transformers", "openvino", "openvino-genai", "optimum-intel", "onnxruntime",
    "onnxruntime-genai", "numpy",
)  # fmt: skip
EVERY = 3  # of the layers, and of the neighbouring pairs
OWN_NUMERICS = "honest, own numerics"
MILD = "mild"


@dataclass(frozen=True)
class Subject:
    """A built variant and how it is scored: the module and settings of each row.

    ``limits`` leave golden prompts out, ``skipped``: id to why.
    """

    name: str
    precision: str
    form: Mapping[str, Any]
    payload: Path
    rows: Mapping[str, tuple[str, Mapping[str, Any]]]
    limits: "Limits"
    skipped: Mapping[str, str]

    def own_predictions(self, artifacts: Path, model: str) -> Any:
        """Those of float32 arithmetic with the payload's weights."""
        from validators.execution import own_predictions

        source, reference = (artifacts / kind / model for kind in ("source", "reference"))
        return own_predictions(self.payload, self.form, source / "files", reference, self.limits)


def measure(
    artifacts: Path, settings: "Settings", model: str, variants: Sequence[str] | None
) -> dict[str, Any]:
    """Score everything; see the module."""
    from validators.golden import load_golden
    from validators.reference_tree import load_reference

    folder = artifacts / "reference" / model
    # A reference without answers to give: scored, not generated.
    reference = replace(load_reference(folder), synthetic=True)
    golden = load_golden(settings.models[model].golden)
    measurements: list[dict[str, Any]] = []
    for subject in _subjects(artifacts, settings, model, variants):
        own = subject.own_predictions(artifacts, model)
        for run in _runs(subject, reference):
            try:
                metrics = run.score(golden, own)
            except _Trouble as error:
                print(f"{subject.name:24} {run.row:18} {run.what:22} {error}", flush=True)
                if run.kind == HONEST:
                    raise SystemExit(
                        f"an honest artifact failed: {subject.name}: {error}"
                    ) from None
                continue
            rounded = {name: float(f"{value:.3g}") for name, value in metrics.items()}
            print(f"{subject.name:24} {run.row:18} {run.what:22} {json.dumps(rounded)}", flush=True)
            entry = {"variant": subject.name, "precision": subject.precision, "row": run.row}
            entry |= {"kind": run.kind, "what": run.what, "arithmetic": run.arithmetic}
            entry |= {"numerics": run.numerics, "metrics": metrics}
            measurements.append(entry)
    simulated = read_record(folder / "REFERENCE.json")["simulated"]
    return {
        "model": model,
        "positions": sum(len(part.positions) for part in reference.scored.values()),
        "reference_sha256": reference.digest,
        "toolchain": {name: version(name) for name in TOOLCHAIN},
        "simulated": simulated,
        "margins": margins(measurements, simulated),
        "measurements": measurements,
    }


class _Trouble(Exception):
    """A runtime refused; a sabotage that crashes is caught without any gate."""


def _settings(model_file: Path | None = None) -> "Settings":
    from phiforge.settings.documents import read_yaml
    from phiforge.settings.settings import load

    config = dict(read_yaml(Path("config/config.yaml")))
    return load(config | ({"model_files": [str(model_file)]} if model_file else {}))


def _subjects(
    artifacts: Path, settings: "Settings", model: str, only: Sequence[str] | None
) -> Iterator[Subject]:
    from phiforge.settings.limits import declared_limits
    from phiforge.settings.plan import blocked_row, row_of
    from validators.left_out import left_out

    record = read_record(artifacts / "reference" / model / "REFERENCE.json")
    for name, variant in settings.variants.items():
        payload = artifacts / "build" / model / name / "payload"
        if not payload.is_dir() or (only and name not in only):
            continue
        rows = {}
        for row in variant.devices:
            device = settings.devices[row]
            chosen = row_of(device, variant)
            runs = device.kind != "compiler" and blocked_row(device, settings.tools) is None
            # A runtime of another environment or tree cannot be imported here.
            if runs and chosen.environment is None and device.detect.tool is None:
                rows[row] = (chosen.runtime, chosen.settings)
        if rows:
            limits = declared_limits(variant.options, {})
            skipped = left_out(record, limits)
            form = {"format": variant.format, "options": variant.options}
            yield Subject(name, variant.precision, form, payload, rows, limits, skipped)


@dataclass(frozen=True)
class _Run:
    """One scoring of a payload.

    Attributes:
        arithmetic: what is broken is not the weights.
        numerics: ``pinned`` to float32, or the runtime's ``default``.
    """

    what: str
    kind: str
    row: str
    subject: Subject
    module: str
    settings: Mapping[str, Any]
    reference: Any
    numerics: str
    arithmetic: bool = False

    def score(self, golden: Any, own: Any) -> dict[str, Any]:
        """Return the metrics; ``own`` are the predictions with the honest payload's weights."""
        import importlib

        from validators.evaluation import metrics_of
        from validators.worker import run_prompts

        module = importlib.import_module(f"validators.runtimes.{self.module}")
        kept = getattr(module, "PINNED", None)
        if self.what == OWN_NUMERICS:
            module.PINNED = {}  # type: ignore[attr-defined]
        try:
            with tempfile.TemporaryDirectory() as doing:
                seen = run_prompts(
                    module.open_runtime, {}, self.subject.payload, self.settings, self.reference,
                    golden, Path(doing) / "DOING", skipped=self.subject.skipped,
                )  # fmt: skip
        finally:
            if self.what == OWN_NUMERICS:
                module.PINNED = kept  # type: ignore[attr-defined]
        every = [seen.failure, *(prompt.failure for prompt in seen.prompts)]
        troubles = [failure for failure in every if failure is not None]
        if troubles:
            raise _Trouble(f"{troubles[0].name}: {troubles[0].what}")
        ran = [prompt for prompt in seen.prompts if prompt.distribution is not None]
        weights_are_its_own = self.kind == HONEST or self.arithmetic
        metrics = metrics_of(ran, self.reference, own if weights_are_its_own else None)
        assert metrics is not None
        return {name: value for name, value in asdict(metrics).items() if value is not None}


def _runs(subject: Subject, reference: Any) -> Iterator[_Run]:
    """Every run of one variant."""
    for row, (module, settings) in subject.rows.items():
        numerics = _numerics(module)
        yield _Run(HONEST, HONEST, row, subject, module, settings, reference, numerics)
    first, (module, settings) = next(iter(subject.rows.items()))
    if module == "openvino_npu":
        first, module, settings = "cpu", "openvino", {"device": "CPU"}
    if module == "openvino":
        yield _Run(OWN_NUMERICS, HONEST, first, subject, module, settings, reference, "default")
    numerics = _numerics(module)
    with tempfile.TemporaryDirectory(prefix="phiforge-sabotage-") as scratch:
        for what, kind, arithmetic, path in _sabotaged(subject.payload, Path(scratch), reference):
            broken = replace(subject, payload=path)
            yield _Run(what, kind, first, broken, module, settings, reference, numerics, arithmetic)


def _numerics(module: str) -> str:
    """OpenVINO's NPU pipeline has no option for its cache; GenAI computes in what the graph has."""
    return "pinned" if module in ("openvino", "openvino_optimum") else "default"


def _sabotaged(
    payload: Path, scratch: Path, reference: Any
) -> Iterator[tuple[str, str, bool, Path]]:
    from benchmarks import sabotage

    layers = sabotage.layers_of(payload)
    prompts = [prompt.prompt_ids for prompt in reference.prompts]
    first, second = sabotage.frequent_tokens(prompts)
    plans: list[tuple[str, str, bool, sabotage.Sabotage]] = [
        (f"layer {index} zeroed", "sabotage", False, sabotage.zero_layer(index))
        for index in range(0, layers, EVERY)
    ]
    plans += [
        (f"layers {i} and {i + 1} swapped", "sabotage", False, sabotage.swap_layers(i, i + 1))
        for i in range(0, layers - 1, EVERY)
    ]
    plans += [
        (f"tokens {first} and {second} exchanged", "sabotage", False,
         sabotage.exchange_tokens(first, second)),
        ("other weights", "sabotage", False, sabotage.other_weights),
        ("RoPE base 500,000", "sabotage", True, sabotage.rope_base(500_000.0)),
        ("RoPE base 10,500", MILD, True, sabotage.rope_base(10_500.0)),
        ("scales of the next group", MILD, False, sabotage.roll_groups),
        ("rounded to 4 bits", MILD, False, sabotage.fewer_bits(4)),
        ("rounded to 3 bits", MILD, False, sabotage.fewer_bits(3)),
    ]  # fmt: skip
    for what, kind, arithmetic, edit in plans:
        try:
            broken = sabotage.sabotaged(payload, scratch / "payload", edit)
        except ValueError:
            continue  # this form of artifact has nothing there to break
        yield what, kind, arithmetic, broken


ENVIRONMENTS: Mapping[str, Mapping[str, str]] = {
    "two threads, best instruction set": {"OMP_NUM_THREADS": "2"},
    "one thread": {"OMP_NUM_THREADS": "1"},
    "AVX2": {
        "OMP_NUM_THREADS": "2",
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    },
}


def stability(source: Path, golden: Path) -> dict[str, Any]:
    """How far the reference moves with threads and instruction sets, against the first of them."""
    from phiforge.jobs import Reference, to_json
    from validators.metrics import compare, concatenate
    from validators.reference_tree import load_reference

    moved: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        made: dict[str, Any] = {}
        for name, environment in ENVIRONMENTS.items():
            into = Path(scratch) / str(len(made))
            job = Path(scratch) / "job.json"
            job.write_text(to_json(Reference("phi3-tiny", 256, 2560, synthetic=False)))
            command = [
                sys.executable, "-m", "phiforge", "reference", str(job),
                "--source", str(source), "--golden", str(golden), "--into", str(into),
            ]  # fmt: skip
            subprocess.run(command, env={**os.environ, **environment}, check=True)
            made[name] = load_reference(into)
        first = next(iter(made.values()))
        for name, reference in made.items():
            mine = [reference.scored[prompt.id].distribution for prompt in reference.prompts]
            theirs = [first.scored[prompt.id].distribution for prompt in first.prompts]
            tops = (concatenate(theirs).top, concatenate(mine).top)
            moved[name] = {
                "same_tokens": reference.prompts == first.prompts,
                "largest_move_of_a_top_log_probability": float(abs(tops[0] - tops[1]).max()),
                "max_kl": compare(concatenate(theirs), concatenate(mine)).max_kl,
            }
    return {"environments": {name: dict(ENVIRONMENTS[name]) for name in moved}, "moved": moved}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.calibrate_acceptance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("step", choices=("measure", "gates", "stability"))
    parser.add_argument("--artifacts", type=Path, default=Path("artifacts"))
    parser.add_argument("--model-file", type=Path, help="an outside model's, instead of phi3-tiny")
    parser.add_argument("--variants", nargs="*", help="only these")
    options = parser.parse_args()
    go_offline()
    from phiforge.settings.documents import read_yaml

    settings = _settings(options.model_file)
    name = read_yaml(options.model_file)["name"] if options.model_file else TINY
    model = settings.models[name]
    if options.step == "measure":
        measured = measure(options.artifacts, settings, model.name, options.variants)
        write_record(RECORDS / f"{model.name}.json", measured)
    elif options.step == "stability":
        source = options.artifacts / "source" / model.name / "files"
        write_record(STABLE, stability(source, model.golden))
    else:
        write_text(GATES, acceptance_text(read_record(MEASURED)["measurements"]))


if __name__ == "__main__":
    run_command(main)
