"""The gates stand well between what is honest and what is broken, and nobody moved them by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.calibrate_acceptance import (
    APART,
    GATES,
    MEASURED,
    METRICS,
    PRECISIONS,
    acceptance_text,
    table,
)
from benchmarks.honest_verdicts import ENVIRONMENTS, NOT_HELD_BACK
from benchmarks.honest_verdicts import RECORD as VERDICTS
from phiforge.artifact.record import read_record
from phiforge.receipts.gates import Gates, Metrics
from phiforge.settings.documents import read_yaml
from phiforge.settings.plan import blocked_row
from phiforge.settings.settings import load

ROOT = Path(__file__).parents[2]


def measurements() -> list[dict[str, object]]:
    return list(read_record(ROOT / MEASURED)["measurements"])


def test_the_gates_are_those_of_the_committed_measurements() -> None:
    expected = acceptance_text(read_record(ROOT / MEASURED))
    assert (ROOT / GATES).read_text(encoding="utf-8") == expected, (
        "run `python -m benchmarks.calibrate_acceptance gates`"
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gate_stands_well_between_the_worst_honest_value_and_the_mildest_sabotage(
    precision: str,
) -> None:
    rows = table(measurements(), precision)
    gated = {name: row for name, row in rows.items() if "gate" in row}
    assert "mean_kl" in gated, "without this gate nothing judges a variant"
    for name, row in gated.items():
        worst, gate, mildest = row["worst_honest"], row["gate"], row["mildest_sabotage"]
        if name == "top1_agreement":
            margin = APART[name] / 2
            assert mildest + margin * 0.99 <= gate <= worst - margin * 0.99
        else:
            margin = APART[name] ** 0.5
            assert worst * margin * 0.99 <= gate <= mildest / margin / 0.99
    for row in rows.values():
        assert ("gate" in row) != ("reported_only" in row)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_honest_measurement_passes_and_every_sabotage_fails(precision: str) -> None:
    gates = {n: row["gate"] for n, row in table(measurements(), precision).items() if "gate" in row}
    assert set(gates) <= set(METRICS)
    for entry in read_record(ROOT / MEASURED)["measurements"]:
        if entry["precision"] != precision or entry["kind"] == "mild":
            continue
        broken = [
            name
            for name, gate in gates.items()
            if (entry["metrics"][name] < gate) == (name == "top1_agreement")
            and entry["metrics"][name] != gate
        ]
        honest = entry["kind"] == "honest"
        assert bool(broken) != honest, (entry["variant"], entry["row"], entry["what"], broken)


def test_every_honest_verdict_is_passed_whatever_the_processor() -> None:
    """As committed: one and two processors, and two instruction sets where a runtime obeys."""
    record = read_record(ROOT / VERDICTS)
    told = {_where(entry): entry for entry in record["verdicts"]}
    left_out = {_where(entry): entry["why"] for entry in record["not_measured"]}
    for where, entry in told.items():
        assert entry["verdict"] == "passed", (where, entry["failures"])
        rows = table(measurements(), entry["precision"])
        gates = Gates({name: row["gate"] for name, row in rows.items() if "gate" in row}, "")
        assert gates.broken(Metrics(**entry["metrics"])) == {}, where
    settings = load(read_yaml(ROOT / "config/config.yaml"), ROOT / "config")
    variants = {name for name, _, _ in told}
    assert len(variants) >= 10
    for name in variants:
        for row in settings.variants[name].devices:
            if blocked_row(settings.devices[row]) is None:
                for where in ((name, row, environment) for environment in ENVIRONMENTS):
                    assert where in told or left_out[where] == NOT_HELD_BACK, where


def test_openvino_obeyed_when_its_instruction_set_was_held_back() -> None:
    kernels = {
        name: " ".join(entry["kernels of openvino-int4"])
        for name, entry in read_record(ROOT / VERDICTS)["environments"].items()
    }
    assert "avx2" not in kernels["two processors"]
    assert "jit_avx2_f32" in kernels["two processors, AVX2"]


def _where(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return entry["variant"], entry["row"], entry["environment"]
