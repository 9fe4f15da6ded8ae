"""The gates stand well between what is honest and what is broken, and nobody moved them by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.acceptance_gates import (
    APART,
    EXECUTION,
    GATES,
    MEASURED,
    PRECISIONS,
    RECORDS,
    acceptance_text,
    margins,
    table,
)
from benchmarks.honest_verdicts import ENVIRONMENTS, NOT_HELD_BACK
from benchmarks.honest_verdicts import RECORD as VERDICTS
from phiforge.artifact.record import read_record
from phiforge.receipts.gates import Gates, Metrics
from support.checkout import ROOT
from support.jobs import SETTINGS

MEASUREMENTS: list[dict[str, Any]] = read_record(ROOT / MEASURED)["measurements"]


def gates_of(precision: str) -> Gates:
    rows = table(MEASUREMENTS, precision)
    return Gates({name: row["gate"] for name, row in rows.items() if "gate" in row}, "")


def test_the_gates_are_those_of_the_committed_measurements() -> None:
    expected = acceptance_text(MEASUREMENTS)
    assert (ROOT / GATES).read_text(encoding="utf-8") == expected, (
        "run `python -m benchmarks.calibrate_acceptance gates`"
    )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_gate_stands_well_between_the_worst_honest_value_and_the_mildest_sabotage(
    precision: str,
) -> None:
    rows = table(MEASUREMENTS, precision)
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
    for entry in MEASUREMENTS:
        if entry["precision"] == precision and entry["kind"] != "mild":
            broken = gates_of(precision).broken(Metrics(**entry["metrics"]))
            assert bool(broken) != (entry["kind"] == "honest"), (entry, broken)


@pytest.mark.parametrize("record", [MEASURED, RECORDS / "second.json"])
def test_both_models_values_stand_apart_by_their_own_gates(record: Path) -> None:
    document = read_record(ROOT / record)
    measured = document["margins"]
    assert measured == margins(document["measurements"], document["simulated"])
    for metrics in measured.values():
        assert any(name.startswith(EXECUTION) for name in metrics)
        for name, row in metrics.items():
            assert row["gate_by_worst_honest"] > 1.5, name
            if name.startswith(EXECUTION) and row["mildest_sabotage"] is not None:
                assert row["mildest_sabotage_by_gate"] > 1.5, name


def test_every_honest_verdict_is_passed_whatever_the_processor() -> None:
    """As committed: one and two processors, and two instruction sets where a runtime obeys."""
    record = read_record(ROOT / VERDICTS)
    verdicts = {_where(entry): entry for entry in record["verdicts"]}
    left_out = {_where(entry): entry["why"] for entry in record["not_measured"]}
    for where, entry in verdicts.items():
        assert entry["verdict"] == "passed", (where, entry["failures"])
        assert gates_of(entry["precision"]).broken(Metrics(**entry["metrics"])) == {}, where
    variants = {name for name, _, _ in verdicts}
    assert len(variants) >= 10
    for name in variants:
        for row in SETTINGS.variants[name].devices:
            if SETTINGS.devices[row].executes == "CPU":
                for where in ((name, row, environment) for environment in ENVIRONMENTS):
                    assert where in verdicts or left_out[where] == NOT_HELD_BACK, where


def test_openvino_obeyed_when_its_instruction_set_was_held_back() -> None:
    kernels = {
        name: " ".join(entry["kernels of openvino-int4"])
        for name, entry in read_record(ROOT / VERDICTS)["environments"].items()
    }
    assert "avx2" not in kernels["two processors"]
    assert "jit_avx2_f32" in kernels["two processors, AVX2"]


def _where(entry: Mapping[str, Any]) -> tuple[str, str, str]:
    return entry["variant"], entry["row"], entry["environment"]
