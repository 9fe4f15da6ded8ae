"""The lint of DirectML builds refuses what DirectML did wrong in the committed sweep, no more."""

from typing import Any

import pytest

from benchmarks.directml_sweep.forms import Form, forms
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from support.checkout import ROOT
from validators.lint.onnx_graph import lint_graph
from validators.lint.providers import OPSETS

RESULT = read_record(ROOT / "benchmarks/directml_sweep/result.json")
SWEPT: list[dict[str, Any]] = RESULT["forms"]
SEEN = {(one["operator"], one["form"]): one["verdict"] for one in SWEPT}
# What no graph shows: where past tokens are kept, and how large values grow.
NOT_IN_A_GRAPH = ("after 199", "after 64", "values of about 300")
LINTED = {
    "MatMulNBits": {"block-form", "stored-types"},
    "GroupQueryAttention": {"attention-form"},
    "SkipSimplifiedLayerNormalization": {"norm-form"},
}


def found(form: Form) -> set[str]:
    """Names of the failures of a graph with this operator alone."""
    block = next(
        (one.i for node in form.nodes for one in node.attribute if one.name == "block_size"), 32
    )
    options = {
        "execution_provider": "dml",
        "precision": "int4",
        "block_size": block,
        "is_symmetric": False,
        "accuracy_level": 4 if "accuracy_level 4" in form.form else 0,
    }
    return {failure.name for failure in lint_graph(form.model(), options)}


def test_the_sweep_is_of_what_is_locked() -> None:
    for lock, digest in RESULT["locks"].items():
        assert sha256_file(ROOT / lock) == digest, "make directml-lock repeats the sweep"


def test_the_sweep_is_of_these_forms() -> None:
    assert [(form.operator, form.form) for form in forms()] == list(SEEN)


@pytest.mark.parametrize(
    "form",
    [
        form
        for form in forms()
        if form.operator in LINTED
        and not any(part in form.form for part in (*NOT_IN_A_GRAPH, "8 bits", "accuracy_level 1"))
    ],
    ids=lambda form: f"{form.operator} {form.form}",
)
def test_a_form_is_refused_that_directml_did_not_compute_right(form: Form) -> None:
    refused = found(form) & LINTED[form.operator]
    assert bool(refused) == (SEEN[form.operator, form.form] != "right"), refused


def test_an_opset_that_directml_takes_in_part_is_refused() -> None:
    taken = {
        form.opset
        for form in forms()
        if form.operator.startswith("opset") and SEEN[form.operator, form.form] == "right"
    }
    whole = [
        opset for opset in taken if SEEN[f"opset {opset}", "Reshape, Transpose, Cast"] == "right"
    ]
    assert max(whole) == OPSETS[""]
    assert all("opset" in found(form) for form in forms() if form.opset > OPSETS[""])
