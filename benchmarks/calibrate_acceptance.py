"""Measure honest and sabotaged artifacts of phi3-tiny and set the gates between them.

    .venv/bin/snakemake --cores 4 all
    .venv/bin/python -m benchmarks.calibrate_acceptance measure
    .venv/bin/python -m benchmarks.calibrate_acceptance gates
    .venv/bin/python -m benchmarks.calibrate_acceptance stability

``measure`` scores every built variant, honest on every row that runs here, then with every
sabotage of benchmarks/sabotage.py on one row, and writes benchmarks/acceptance/phi3-tiny.json.
Sabotaged NPU variants run as plain IRs on the row cpu: it is the same graph, and the static
pipeline gives its logits one token at a time. ``--variants`` measures some only; the record keeps
what it holds of the others, if they were compared with the same reference. NF4 came after a change
of the reference's form and has a record of its own (``--record``), which ``gates`` reads too.
``stability`` runs the reference with other threads and instruction sets and writes how far it
moves. ``gates`` derives config/acceptance.yaml from the measurements alone. Per precision and
metric:

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
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record, write_record, write_text
from phiforge.errors import run_command
from phiforge.offline import go_offline

MEASURED = Path("benchmarks/acceptance/phi3-tiny.json")
MEASURED_NF4 = Path("benchmarks/acceptance/phi3-tiny-nf4.json")
STABLE = Path("benchmarks/acceptance/reference-stability.json")
GATES = Path("config/acceptance.yaml")
METRICS = ("top1_agreement", "mean_kl", "max_kl", "perplexity_ratio")
PRECISIONS = ("fp16", "int8", "int4", "nf4")

APART: Mapping[str, float] = {
    "top1_agreement": 0.1,  # difference of the two
    "mean_kl": 4.0,  # quotient of the two: the gate is at least a factor 2 from either
    "max_kl": 4.0,
    "perplexity_ratio": 1.2,
}
TOOLCHAIN = (
    "torch", "transformers", "openvino", "openvino-genai", "optimum-intel", "onnxruntime",
    "onnxruntime-genai", "numpy",
)  # fmt: skip
EVERY = 3  # of the layers, and of the neighbouring pairs
HONEST = "honest"
MILD = "mild"


def table(measurements: Sequence[Mapping[str, Any]], precision: str) -> dict[str, dict[str, Any]]:
    """Worst honest value, mildest sabotage and gate (or why there is none) of each metric."""
    mine = [entry for entry in measurements if entry["precision"] == precision]
    return {metric: _row(mine, metric) for metric in METRICS}


def _row(measurements: Sequence[Mapping[str, Any]], metric: str) -> dict[str, Any]:
    honest = [e["metrics"][metric] for e in measurements if e["kind"] == HONEST]
    sabotaged = [e["metrics"][metric] for e in measurements if e["kind"] == "sabotage"]
    pick = (min, max) if metric == "top1_agreement" else (max, min)
    worst, mildest = pick[0](honest), pick[1](sabotaged)
    row: dict[str, Any] = {"worst_honest": worst, "mildest_sabotage": mildest}
    if metric == "top1_agreement":
        apart, gate = worst - mildest, (worst + mildest) / 2
    else:
        apart, gate = mildest / max(worst, 1e-15), math.sqrt(max(worst, 1e-15) * mildest)
    if apart >= APART[metric]:
        return {**row, "gate": float(f"{gate:.3g}")}
    said = f"the mildest sabotage gives {mildest:.4g}, an honest artifact {worst:.4g}"
    return {**row, "reported_only": said}


def acceptance_text(measurements: Sequence[Mapping[str, Any]]) -> str:
    """config/acceptance.yaml of measurements."""
    lines = [
        "# Written by `python -m benchmarks.calibrate_acceptance gates` from",
        f"# {MEASURED.as_posix()} and {MEASURED_NF4.name}; do not edit, measure",
        "# again. How the gates are set is told in benchmarks/calibrate_acceptance.py.",
        "# Models that rounding costs more widen them (validators/acceptance.py).",
    ]
    for precision in PRECISIONS:
        lines.append(f"{precision}:")
        for metric, row in table(measurements, precision).items():
            told = ", ".join(f"{key}: {_yaml(value)}" for key, value in row.items())
            lines.append(f"  {metric}: {{{told}}}")
    return "\n".join(lines) + "\n"


def _yaml(value: float | str) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    told = f"{value:.6g}"
    # YAML 1.1 takes 1e-05 for a text; a number needs its point.
    return told if "." in told or "e" not in told else told.replace("e", ".0e")


@dataclass(frozen=True)
class Subject:
    """A built variant and how it is scored: the module and settings of each row.

    ``skipped``: prompt id to why it is left out.
    """

    name: str
    precision: str
    payload: Path
    rows: Mapping[str, tuple[str, Mapping[str, Any]]]
    skipped: Mapping[str, str]


def measure(
    artifacts: Path, model: str, variants: Sequence[str] | None, golden_file: Path | None = None
) -> dict[str, Any]:
    """Score everything; see the module."""
    from validators.golden import load_golden
    from validators.reference_tree import load_reference

    folder = artifacts / "reference" / model
    # A reference without answers to give: scored, not generated.
    reference = replace(load_reference(folder), synthetic=True)
    golden = load_golden(golden_file or _settings().models[model].golden)
    measurements: list[dict[str, Any]] = []
    for subject in _subjects(artifacts, model, variants):
        for what, kind, row, score in _runs(subject, reference):
            metrics: dict[str, Any] = {}
            failure = ""
            try:
                metrics = score(golden)
            except _Trouble as error:
                failure = str(error)
            entry = {
                "variant": subject.name,
                "precision": subject.precision,
                "row": row,
                "kind": kind,
                "what": what,
            }
            told = failure or json.dumps({name: float(f"{metrics[name]:.3g}") for name in METRICS})
            print(f"{subject.name:24} {row:18} {what:22} {told}", flush=True)
            if metrics:
                measurements.append({**entry, "metrics": metrics})
            elif kind == HONEST:
                raise SystemExit(f"an honest artifact failed: {subject.name} on {row}: {failure}")
    return {
        "model": model,
        "positions": sum(len(part.positions) for part in reference.scored.values()),
        "reference_sha256": reference.digest,
        "toolchain": {name: version(name) for name in TOOLCHAIN},
        "measurements": measurements,
    }


def with_the_others(measured: Mapping[str, Any], record: Path) -> dict[str, Any]:
    """``measured``, and what ``record`` holds of other variants against the same reference."""
    kept = []
    if record.is_file():
        old = read_record(record)
        same = ("model", "reference_sha256", "toolchain")
        if all(old[key] == measured[key] for key in same):
            again = {entry["variant"] for entry in measured["measurements"]}
            kept = [entry for entry in old["measurements"] if entry["variant"] not in again]
    return {**measured, "measurements": [*kept, *measured["measurements"]]}


class _Trouble(Exception):
    """A runtime refused; a sabotage that crashes is caught without any gate."""


def _settings() -> Any:
    from phiforge.settings.documents import read_yaml
    from phiforge.settings.settings import load

    return load(read_yaml(Path("config/config.yaml")))


def _subjects(artifacts: Path, model: str, only: Sequence[str] | None) -> Iterator[Subject]:
    from phiforge.settings.limits import declared_limits
    from phiforge.settings.plan import blocked_row, row_of
    from validators.left_out import left_out

    settings = _settings()
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
            # A runtime of another environment cannot be imported here.
            if runs and chosen.environment is None:
                rows[row] = (chosen.runtime, chosen.settings)
        if rows:
            skipped = left_out(record, declared_limits(variant.options, {}))
            yield Subject(name, variant.precision, payload, rows, skipped)


Score = Callable[[Any], dict[str, Any]]


def _runs(subject: Subject, reference: Any) -> Iterator[tuple[str, str, str, Score]]:
    """What, kind, row and how to score it, of every run of one variant."""
    for row, (module, settings) in subject.rows.items():
        yield HONEST, HONEST, row, _scorer(subject, module, settings, reference)
    first, (module, settings) = next(iter(subject.rows.items()))
    if module == "openvino_npu":
        first, module, settings = "cpu", "openvino", {"device": "CPU"}
    if module == "openvino":
        native = _scorer(subject, module, settings, reference, pinned=False)
        yield "honest, own numerics", HONEST, first, native
    with tempfile.TemporaryDirectory(prefix="phiforge-sabotage-") as scratch:
        for what, kind, path in _sabotaged(subject.payload, Path(scratch), reference):
            broken = replace(subject, payload=path)
            yield what, kind, first, _scorer(broken, module, settings, reference)


def _sabotaged(payload: Path, scratch: Path, reference: Any) -> Iterator[tuple[str, str, Path]]:
    from benchmarks import sabotage

    layers = sabotage.layers_of(payload)
    prompts = [prompt.prompt_ids for prompt in reference.prompts]
    first, second = sabotage.frequent_tokens(prompts)
    plans: list[tuple[str, str, sabotage.Sabotage]] = [
        (f"layer {index} zeroed", "sabotage", sabotage.zero_layer(index))
        for index in range(0, layers, EVERY)
    ]
    plans += [
        (f"layers {i} and {i + 1} swapped", "sabotage", sabotage.swap_layers(i, i + 1))
        for i in range(0, layers - 1, EVERY)
    ]
    plans += [
        (f"tokens {first} and {second} exchanged", "sabotage",
         sabotage.exchange_tokens(first, second)),
        ("other weights", "sabotage", sabotage.other_weights),
        ("RoPE base 500,000", "sabotage", sabotage.rope_base(500_000.0)),
        ("scales of the next group", "sabotage", sabotage.roll_groups),
        ("rounded to 4 bits", MILD, sabotage.fewer_bits(4)),
        ("rounded to 3 bits", MILD, sabotage.fewer_bits(3)),
    ]  # fmt: skip
    for what, kind, edit in plans:
        try:
            yield what, kind, sabotage.sabotaged(payload, scratch / "payload", edit)
        except ValueError:
            continue  # this form of artifact has nothing there to break


def _scorer(
    subject: Subject,
    module_name: str,
    settings: Mapping[str, Any],
    reference: Any,
    *,
    pinned: bool = True,
) -> Score:
    import importlib

    from validators.metrics import compare, concatenate
    from validators.worker import run_prompts

    def score(golden: Any) -> dict[str, Any]:
        module = importlib.import_module(f"validators.runtimes.{module_name}")
        kept = getattr(module, "PINNED", None)
        if not pinned:
            module.PINNED = {}  # type: ignore[attr-defined]
        try:
            with tempfile.TemporaryDirectory() as doing:
                seen = run_prompts(
                    module.open_runtime, {}, subject.payload, settings, reference, golden,
                    Path(doing) / "DOING", skipped=subject.skipped,
                )  # fmt: skip
        finally:
            if not pinned:
                module.PINNED = kept  # type: ignore[attr-defined]
        every = [seen.failure, *(prompt.failure for prompt in seen.prompts)]
        troubles = [failure for failure in every if failure is not None]
        if troubles:
            raise _Trouble(f"{troubles[0].name}: {troubles[0].what}")
        ran = [prompt for prompt in seen.prompts if prompt.distribution is not None]
        return asdict(
            compare(
                concatenate([reference.scored[prompt.id].distribution for prompt in ran]),
                concatenate(
                    [prompt.distribution for prompt in ran if prompt.distribution is not None]
                ),
            )
        )

    return score


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
    parser.add_argument("--model", default="phi3-tiny")
    parser.add_argument("--variants", nargs="*", help="only these; the record keeps the others")
    parser.add_argument("--golden", type=Path, help="other prompts than the model's own")
    parser.add_argument("--record", type=Path, help="measure: where to")
    parser.add_argument("--gates", type=Path, default=GATES)
    options = parser.parse_args()
    if options.step == "measure":
        go_offline()
        measured = measure(options.artifacts, options.model, options.variants, options.golden)
        record = options.record or MEASURED
        write_record(record, with_the_others(measured, record))
    elif options.step == "stability":
        go_offline()
        model = _settings().models[options.model]
        golden = options.golden or model.golden
        write_record(STABLE, stability(options.artifacts / "source" / model.name / "files", golden))
    else:
        records = [options.record] if options.record else [MEASURED, MEASURED_NF4]
        found = [entry for record in records for entry in read_record(record)["measurements"]]
        write_text(options.gates, acceptance_text(found))


if __name__ == "__main__":
    run_command(main)
