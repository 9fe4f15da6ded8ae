"""What an artifact's weights predict is computed once for its rows, and never believed blindly."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from phiforge.artifact.origin import PREDICTIONS_TAKEN, origin_path
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import sha256_file
from support.bench import SOURCE, Bench
from support.jobs import check_job
from validators.execution import Own, own_predictions
from validators.predictions import RECORD, SCORES, are_kept

VARIANT = "openvino-fp16"


@pytest.fixture(scope="module")
def made(
    bench: Bench, built: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("made") / "predictions"
    assert predict(bench, built, folder).maker is None
    return folder


@pytest.fixture
def kept(made: Path, tmp_path: Path) -> Path:
    """The folder where the check of one row has kept them."""
    return Path(shutil.copytree(made, tmp_path / "predictions"))


def predict(bench: Bench, built: Callable[[str], Path], folder: Path) -> Own:
    recipe = asdict(check_job(VARIANT, "cpu").recipe)
    own = own_predictions(built(VARIANT), recipe, SOURCE, bench.reference, kept=folder)
    assert own is not None
    return own


def check(bench: Bench, built: Callable[[str], Path], folder: Path) -> tuple[str, list[str]]:
    """Check an artifact; what the log says, and what the receipt notes of predictions."""
    artifact = built(VARIANT).parent
    done, receipt = bench.check(VARIANT, "cpu", artifact, "--predictions", str(folder))
    assert done.returncode == 0, done.stderr
    assert receipt is not None and receipt["verdict"] == "passed", receipt
    assert receipt["metrics"]["execution_kl"] is not None
    notes = [note["name"] for note in receipt["lint"]]
    return done.stdout, [name for name in notes if name == PREDICTIONS_TAKEN]


def as_taken(folder: Path) -> None:
    """Note that they came from another agent."""
    facts = {"key": "0" * 64, "keyid": "1" * 64, "builder": "urn:test:other"}
    digest = sha256_file(folder / RECORD)
    write_record(origin_path(folder / RECORD), {**facts, "sha256": digest})


def change_scores(folder: Path, change: Callable[[Any], Any] = lambda top: top[:, ::-1]) -> None:
    """Make other predictions of them, with a record that fits."""
    arrays = {
        name: np.ascontiguousarray(change(array)) if name.endswith("/top") else array
        for name, array in load_file(folder / SCORES).items()
    }
    save_file(arrays, folder / SCORES)
    record = {**read_record(folder / RECORD), "files": {SCORES: sha256_file(folder / SCORES)}}
    write_record(folder / RECORD, record)


def test_a_second_row_reads_what_the_first_one_kept(
    bench: Bench, built: Callable[[str], Path], kept: Path
) -> None:
    before = (kept / SCORES).stat()
    predict(bench, built, kept)
    assert (kept / SCORES).stat().st_ino == before.st_ino


def test_what_is_damaged_or_of_other_inputs_does_not_count(kept: Path) -> None:
    record, scores = read_record(kept / RECORD), (kept / SCORES).read_bytes()
    basis = record["follow_from"]
    assert are_kept(kept, basis)
    assert not are_kept(kept, {**basis, "artifact_sha256": "0" * 64})
    (kept / SCORES).write_bytes(scores[:-8] + b"12345678")
    assert not are_kept(kept, basis)
    (kept / SCORES).write_bytes(scores)
    for damaged in ("[]", "{", "{}", json.dumps({**record, "files": []})):
        (kept / RECORD).write_text(damaged)
        assert not are_kept(kept, basis)
    (kept / SCORES).unlink()
    assert not are_kept(kept, basis)


def test_a_receipt_says_whose_numbers_it_rests_on(
    bench: Bench, built: Callable[[str], Path], kept: Path
) -> None:
    as_taken(kept)
    said, notes = check(bench, built, kept)
    assert notes == [PREDICTIONS_TAKEN] and "alarm" not in said


@pytest.mark.parametrize(
    "change", [lambda top: top[:, ::-1], lambda top: top - 1.0], ids=["other", "not-normalised"]
)
def test_nothing_rests_on_wrong_numbers_of_another_machine(
    bench: Bench, built: Callable[[str], Path], kept: Path, change: Callable[[Any], Any]
) -> None:
    honest = (kept / SCORES).read_bytes()
    change_scores(kept, change)
    as_taken(kept)
    said, notes = check(bench, built, kept)
    assert "alarm: cache: disagreement: urn:test:other (key 1111111111111111…)" in said
    assert notes == []
    assert (kept / SCORES).read_bytes() == honest
    assert not origin_path(kept / RECORD).exists()
