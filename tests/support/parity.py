"""How far a build is from transformers in float32: what the converters' tests compare."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from phiforge.offline import OFFLINE
from support.checkout import ROOT
from validators.metrics import log_probabilities

MODEL = ROOT / "models" / "phi3-tiny"
CARRIED = (
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)
"""Files that a payload takes from its source as they are, where the source has them."""

Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], None]
"""Edits the tensors and the configuration of a model in place."""


def changed_model(into: Path, change: Change, layers: int | None = 2) -> Path:
    """Copy phi3-tiny, or its first layers, with its tensors and its configuration changed."""
    into.mkdir(parents=True, exist_ok=True)
    for name in (*CARRIED, "LICENSE"):
        if (MODEL / name).is_file():
            shutil.copyfile(MODEL / name, into / name)
    config = json.loads((MODEL / "config.json").read_text())
    tensors = load_file(MODEL / "model.safetensors")
    if layers is not None:
        config["num_hidden_layers"] = layers
        for name in list(tensors):
            if name.startswith("model.layers.") and int(name.split(".")[2]) >= layers:
                del tensors[name]
        (into / "config.json").write_text(json.dumps(config))
    before = json.dumps(config)
    change(tensors, config)
    if json.dumps(config) != before:
        (into / "config.json").write_text(json.dumps(config))
    save_file(tensors, into / "model.safetensors", metadata={"format": "pt"})
    return into


def unchanged(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    pass


def enormous(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    tensors["model.layers.1.mlp.down_proj.weight"][3, 5] = 70000.0


def run_tool(*command: object, cwd: Path | None = None, **environment: str) -> str:
    """Run a converter, ours or the official one, offline; return its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **OFFLINE, "TQDM_DISABLE": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def reference(source: Path, tokens: npt.NDArray[Any], **config: Any) -> npt.NDArray[np.float64]:
    """Return transformers' float32 log-probabilities, (tokens, vocabulary).

    Args:
        config: what of the model's configuration is set before it runs.
    """
    model = AutoModelForCausalLM.from_pretrained(
        source, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    for name, value in config.items():
        setattr(model.config, name, value)
    with torch.no_grad():
        logits = model(torch.from_numpy(tokens.astype(np.int64))[None]).logits[0]
    return log_probabilities(logits.numpy())


def mean_kl(reference: npt.NDArray[Any], candidate: npt.NDArray[Any]) -> float:
    """Return the mean over positions of KL(reference || candidate), in nats."""
    return float((np.exp(reference) * (reference - candidate)).sum(-1).mean())
