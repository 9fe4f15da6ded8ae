"""Set gates between measured honest and sabotaged values, and say how far apart they are."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RECORDS = Path("benchmarks/acceptance")
TINY = "phi3-tiny"
MEASURED = RECORDS / f"{TINY}.json"
GATES = Path("config/acceptance.yaml")
METRICS = ("top1_agreement", "mean_kl", "max_kl", "perplexity_ratio")
EXECUTION = "execution_kl"
PRECISIONS = ("fp16", "int8", "int4", "nf4")
HONEST = "honest"

APART: Mapping[str, float] = {
    "top1_agreement": 0.1,  # difference of the two
    "mean_kl": 3.5,  # quotient of the two: the gate is at least a factor 1.8 from either
    "max_kl": 3.5,
    "perplexity_ratio": 1.2,
}


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
        f"# {MEASURED.as_posix()}; do not edit, measure again. How the gates are set",
        "# is in benchmarks/calibrate_acceptance.py.",
        "# Models that rounding costs more widen them (validators/acceptance.py).",
    ]
    for precision in PRECISIONS:
        lines.append(f"{precision}:")
        for metric, row in table(measurements, precision).items():
            shown = ", ".join(f"{key}: {_yaml(value)}" for key, value in row.items())
            lines.append(f"  {metric}: {{{shown}}}")
    return "\n".join(lines) + "\n"


def margins(
    measurements: Sequence[Mapping[str, Any]], simulated: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """By precision and metric: worst honest value, the model's own gate, mildest sabotage.

    Args:
        simulated: what coarser arithmetic and weights cost the model (validators/simulation.py).
    """
    from validators.acceptance import load_gates

    found: dict[str, dict[str, Any]] = {}
    for precision in PRECISIONS:
        mine = [entry for entry in measurements if entry["precision"] == precision]
        gates = load_gates(GATES, precision, {}, simulated)
        found[precision] = {
            metric: _margin(
                [e["metrics"][metric] for e in mine if e["kind"] == HONEST],
                [e["metrics"][metric] for e in mine if e["kind"] == "sabotage"],
                gates.limits[metric],
            )
            for metric in ("mean_kl", "max_kl")
            if mine
        }
        for numerics in ("pinned", "default"):
            run = [e for e in mine if e["numerics"] == numerics and EXECUTION in e["metrics"]]
            if honest := [e["metrics"][EXECUTION] for e in run if e["kind"] == HONEST]:
                broken = [e for e in run if e["arithmetic"]]
                pinned = {"KV_CACHE_PRECISION": "f32"} if numerics == "pinned" else {}
                gate = gates.of_run(held=True, pinned=pinned).limits[EXECUTION]
                found[precision][f"{EXECUTION}, {numerics} numerics"] = {
                    **_margin(honest, _executions(broken, "sabotage"), gate),
                    "mild": min(_executions(broken, "mild"), default=None),
                }
    return found


def _executions(measurements: Sequence[Mapping[str, Any]], kind: str) -> list[float]:
    return [entry["metrics"][EXECUTION] for entry in measurements if entry["kind"] == kind]


def _margin(honest: Sequence[float], broken: Sequence[float], gate: float) -> dict[str, Any]:
    """How many times the gate is above the one and below the other."""
    worst, mildest = max(honest), min(broken, default=None)
    row = {"worst_honest": worst, "gate": gate, "mildest_sabotage": mildest}
    row["gate_by_worst_honest"] = float(f"{gate / max(worst, 1e-15):.3g}")
    if mildest is not None:
        row["mildest_sabotage_by_gate"] = float(f"{mildest / gate:.3g}")
    return row


def _yaml(value: float | str) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    text = f"{value:.6g}"
    # YAML 1.1 takes 1e-05 for a text; a number needs its point.
    return text if "." in text or "e" not in text else text.replace("e", ".0e")
