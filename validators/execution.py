"""Judge an artifact's arithmetic by its own weights: ask `validators.execution_worker` for them.

Weights are held to the source by theorem (`validators.lint.weights`), and what is computed with
them to float32 arithmetic: quantization's noise is in both, so one gate serves every model.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from phiforge.checkout import ROOT
from phiforge.offline import OFFLINE
from validators.contract import CheckError
from validators.isolation import PASSIVE
from validators.lint.architecture import read_architecture
from validators.metrics import TopKDistribution

RESULT = "EXECUTION.npz"

Predictions = Mapping[str, TopKDistribution]
"""Of a model, by prompt id, at the reference's positions and over the reference's outcomes."""


def own_predictions(
    payload: Path,
    variant: Mapping[str, Any],
    source: Path | None,
    reference: Path,
    skipped: Mapping[str, str],
) -> Predictions | None:
    """Compute in float32 with the weights of ``payload``, which its lint must have passed.

    Args:
        variant: ``format`` and ``options`` are read.
        source: the model's files; None: they are not on this machine.
        reference: folder of the reference.
        skipped: prompt id to why it is left out.

    Returns:
        None: the source is not here, or its kind is not known.

    Raises:
        CheckError: the process failed; its own message is in the log.
    """
    if source is None or read_architecture(source) is None:
        return None
    with tempfile.TemporaryDirectory(prefix="phiforge-execution-") as name:
        folder = Path(name)
        job = {
            "payload": str(payload.resolve()),
            "variant": {"format": variant["format"], "options": variant["options"]},
            "source": str(source.resolve()),
            "reference": str(reference.resolve()),
            "skipped": dict(skipped),
            "into": str(folder),
        }
        (folder / "JOB.json").write_text(json.dumps(job), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "validators.execution_worker", str(folder / "JOB.json")],
            env={**PASSIVE, **os.environ, **OFFLINE, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise CheckError(
                "the predictions of the artifact's own weights could not be computed: the process "
                f"ended with exit code {done.returncode}",
                where="validators/execution_worker.py",
                remedy="read the lines above this one in the log",
            )
        return _read_predictions(folder / RESULT)


def write_predictions(path: Path, found: Predictions) -> None:
    """Write what `own_predictions` reads."""
    arrays = {
        f"{prompt}/{field.name}": getattr(one, field.name)
        for prompt, one in found.items()
        for field in fields(TopKDistribution)
    }
    np.savez(path, **arrays)


def _read_predictions(path: Path) -> Predictions:
    found: dict[str, dict[str, Any]] = {}
    with np.load(path) as arrays:
        for key in arrays.files:
            prompt, _, name = key.rpartition("/")
            found.setdefault(prompt, {})[name] = arrays[key]
    return {prompt: TopKDistribution(**one) for prompt, one in found.items()}
