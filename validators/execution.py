"""Judge an artifact's arithmetic by its own weights: ask `validators.execution_worker` for them.

Weights are held to the source by theorem (`validators.lint.weights`), and what is computed with
them to float32 arithmetic: quantization's noise is in both, so one gate serves every model.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from phiforge.artifact.record import read_record
from phiforge.artifact.tree import fresh_tree
from phiforge.checkout import ROOT
from phiforge.jobs import NO_LIMITS, Limits
from phiforge.offline import OFFLINE
from validators.contract import CheckError
from validators.isolation import PASSIVE
from validators.left_out import left_out
from validators.lint.architecture import read_architecture
from validators.metrics import TopKDistribution
from validators.predictions import SCORES, alone, are_kept, follow_from, maker, write_facts
from validators.reference_tree import RECORD

Predictions = Mapping[str, TopKDistribution]
"""Of a model, by prompt id, at the reference's positions and over the reference's outcomes."""


@dataclass(frozen=True)
class Own:
    """What the artifact's own weights predict in float32.

    Attributes:
        maker: the agent whose predictions were taken from a shared cache; None: made here.
    """

    predictions: Predictions
    maker: str | None = None

    @property
    def is_normalised(self) -> bool:
        return all(one.is_normalised for one in self.predictions.values())


def own_predictions(
    payload: Path,
    variant: Mapping[str, Any],
    source: Path | None,
    reference: Path,
    limits: Limits = NO_LIMITS,
    *,
    kept: Path | None = None,
    afresh: bool = False,
) -> Own | None:
    """Compute in float32 with the weights of ``payload``, which its lint must have passed.

    Args:
        variant: ``format`` and ``options`` are read.
        source: the model's files; None: they are not on this machine.
        reference: folder of the reference.
        limits: what leaves golden prompts out.
        kept: folder of the predictions, for the other rows of the artifact; None: nowhere.
        afresh: what is kept there does not count.

    Returns:
        None: the source is not here, or its kind is not known.

    Raises:
        CheckError: the process failed; its own message is in the log.
    """
    if source is None or read_architecture(source) is None:
        return None
    job = {
        "payload": str(payload.resolve()),
        "variant": {"format": variant["format"], "options": variant["options"]},
        "source": str(source.resolve()),
        "reference": str(reference.resolve()),
        "left_out": sorted(left_out(read_record(reference / RECORD), limits)),
    }
    if kept is None:
        with TemporaryDirectory(prefix="phiforge-execution-") as name:
            _compute(job, Path(name))
            return Own(_read(Path(name)))
    basis = follow_from(payload, variant, source, reference / RECORD, limits)
    with alone(kept):
        if not afresh and are_kept(kept, basis):
            return Own(_read(kept), maker(kept))
        with fresh_tree(kept) as folder:
            _compute(job, folder)
            write_facts(folder, basis)
        return Own(_read(kept))


def _compute(job: Mapping[str, Any], folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "validators.execution_worker"],
        input=json.dumps({**job, "into": str(folder.resolve())}),
        text=True,
        env={**PASSIVE, **os.environ, **OFFLINE, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    if done.returncode != 0:
        raise CheckError(
            "the predictions of the artifact's own weights could not be computed: the process "
            f"ended with exit code {done.returncode}",
            where="validators/execution_worker.py",
            remedy="read the lines above this one in the log",
        )


def write_predictions(folder: Path, found: Predictions) -> None:
    """Write what `own_predictions` reads."""
    arrays = {
        f"{prompt}/{field.name}": np.ascontiguousarray(getattr(one, field.name))
        for prompt, one in found.items()
        for field in fields(TopKDistribution)
    }
    save_file(arrays, folder / SCORES)


def _read(folder: Path) -> Predictions:
    found: dict[str, dict[str, Any]] = {}
    for key, array in load_file(folder / SCORES).items():
        prompt, _, name = key.rpartition("/")
        found.setdefault(prompt, {})[name] = array
    return {prompt: TopKDistribution(**one) for prompt, one in found.items()}
