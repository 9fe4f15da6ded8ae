"""A model's first layers: its own tensors and no others, as a checkpoint that loads."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from phiforge.sources.first_layers import copy_first_layers
from phiforge.sources.source import FirstLayers, SourceError
from support.checkout import ROOT

TINY = ROOT / "models/phi3-tiny"


def test_the_first_layers_compute_what_they_compute_in_the_whole_model(tmp_path: Path) -> None:
    files = copy_first_layers(FirstLayers("phi3-tiny", 1), TINY, tmp_path)
    assert {file.path for file in files} == {path.name for path in tmp_path.iterdir()}
    assert (tmp_path / "tokenizer.json").read_bytes() == (TINY / "tokenizer.json").read_bytes()
    whole, part = (load_file(folder / "model.safetensors") for folder in (TINY, tmp_path))
    assert whole.keys() > part.keys()
    assert all(torch.equal(whole[name], part[name]) for name in part)

    models = {
        folder: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        for folder in (TINY, tmp_path)
    }
    ids = torch.tensor([[1, 450, 1000, 310]])
    with torch.inference_mode():
        states = models[TINY](ids, output_hidden_states=True).hidden_states
        found = models[tmp_path](ids).logits
        head = models[TINY].lm_head(models[TINY].model.norm(states[1]))
    assert torch.equal(found, head)


def test_the_weights_of_shards_come_together(tmp_path: Path) -> None:
    whole, into = tmp_path / "whole", tmp_path / "into"
    for folder in (whole, into):
        folder.mkdir()
    tensors = load_file(TINY / "model.safetensors")
    shards = {name: f"model-{1 + ('lm_head' in name):05d}-of-00002.safetensors" for name in tensors}
    for file in set(shards.values()):
        save_file({name: tensors[name] for name in tensors if shards[name] == file}, whole / file)
    index = {"metadata": {}, "weight_map": shards}
    (whole / "model.safetensors.index.json").write_text(json.dumps(index))
    config = json.loads((TINY / "config.json").read_text())
    layers = config["num_hidden_layers"]
    config["layer_types"] = [f"of layer {number}" for number in range(layers)]
    (whole / "config.json").write_text(json.dumps(config))
    copy_first_layers(FirstLayers("whole", 2), whole, into)
    assert {path.name for path in into.iterdir()} == {"config.json", "model.safetensors"}
    made = json.loads((into / "config.json").read_text())
    assert made["layer_types"] == ["of layer 0", "of layer 1"]
    found = load_file(into / "model.safetensors")
    assert torch.equal(found["lm_head.weight"], tensors["lm_head.weight"])
    assert not any(f"layers.{layers - 1}." in name for name in found)


def test_as_many_layers_as_there_are_are_no_first_layers(tmp_path: Path) -> None:
    layers = json.loads((TINY / "config.json").read_text())["num_hidden_layers"]
    with pytest.raises(SourceError, match=f"expected num_hidden_layers above {layers}"):
        copy_first_layers(FirstLayers("phi3-tiny", layers), TINY, tmp_path)
