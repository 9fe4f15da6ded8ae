"""Each model file's architecture, as a tiny model with random weights, through every converter."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from converters import npu_library, onnx_genai, openvino
from phiforge.artifact.manifest import write_manifest
from support import onnx_genai_builds, openvino_builds
from support.checkout import NPU_LIBRARY, ROOT, Checkout
from support.jobs import SETTINGS
from support.parity import changed_model, mean_kl, reference
from validators.lint.payload import lint
from validators.reference_tree import load_reference

CONVERTERS = {"npu_library": npu_library, "onnx_genai": onnx_genai, "openvino": openvino}
SWITCH = 32
FEW, MANY = 20, 48  # tokens on either side of it


def longrope(dimensions: int) -> dict[str, Any]:
    return {
        "max_position_embeddings": 2 * SWITCH,
        "original_max_position_embeddings": SWITCH,
        "rope_scaling": {
            "type": "longrope",
            "short_factor": [1.0 + 0.01 * place for place in range(dimensions // 2)],
            "long_factor": [1.0 + 0.4 * place for place in range(dimensions // 2)],
        },
    }


# Heads of 128, as theirs, and theirs in proportion.
MEDIUM = {"hidden_size": 512, "num_attention_heads": 4, "num_key_value_heads": 1}
PHI_4_MINI = {
    "hidden_size": 384, "num_attention_heads": 3, "num_key_value_heads": 1, "sliding_window": 2**18,
    "partial_rotary_factor": 0.75, "tie_word_embeddings": True, **longrope(96),
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "phi-3-mini-4k": {},
    "phi-3-mini-128k": longrope(64),
    "phi-3.5-mini": longrope(64),
    "phi-3-medium-4k": MEDIUM,
    "phi-3-medium-128k": {**MEDIUM, **longrope(128), "sliding_window": 2**17},
    "phi-4": {
        **MEDIUM, "rope_theta": 250000.0, "sliding_window": None,
        "max_position_embeddings": 16384, "original_max_position_embeddings": 16384,
    },
    "phi-4-mini": PHI_4_MINI,
    "phi-4-mini-reasoning": PHI_4_MINI,
}  # fmt: skip
# Their architectures are each another one's here, or phi3-tiny's.
ALIKE = {"phi-3-mini-4k", "phi-3.5-mini", "phi-4-mini"}


def random_model(shape: dict[str, Any]) -> Callable[[dict[str, torch.Tensor], Any], None]:
    """Weights so large that attention, and so RoPE, changes the predictions."""

    def change(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
        config |= {**shape, "initializer_range": 0.06}
        torch.manual_seed(1)
        model = Phi3ForCausalLM(Phi3Config(**config)).to(torch.bfloat16)
        tensors.clear()
        tensors.update({name: one.clone() for name, one in model.state_dict().items()})
        for name in filter(lambda name: "norm" in name, tensors):  # exports leave out factors of 1
            tensors[name] = (1 + 0.1 * torch.randn(tensors[name].shape)).to(torch.bfloat16)
        if config["tie_word_embeddings"]:
            del tensors["lm_head.weight"]

    return change


def test_every_model_file_is_among_them() -> None:
    files = {path.stem for path in ROOT.glob("config/models/*.yaml")}
    assert files - MODELS.keys() == {"phi3-tiny"}


@pytest.fixture(params=sorted(MODELS.keys() - ALIKE))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return changed_model(tmp_path / "source", random_model(MODELS[request.param]))


def test_every_converter_makes_what_the_source_computes(
    pipeline: Checkout, source: Path, tmp_path: Path
) -> None:
    tokenizer = load_reference(pipeline.folder / "artifacts/reference/phi3-tiny")

    def built(variant: str, base: str | None = None) -> Path:
        """Convert, and hold what came out to the source: weights, RoPE, heads, graph, files."""
        recipe, into = SETTINGS.variants[variant], tmp_path / variant
        into.mkdir()
        CONVERTERS[recipe.converter].convert(
            source, into, options=recipe.options, base=base and tmp_path / base
        )
        shutil.copyfile(source / "LICENSE", into / "LICENSE")  # as rule convert does
        write_manifest(into, {})
        declared = {"format": recipe.format, "options": recipe.options}
        assert lint(into, variant=declared, reference=tokenizer, source=source) == [], variant
        return into

    fp16, dml, cpu = built("openvino-fp16"), built("genai-dml-fp16"), built("genai-cpu-int4")
    built("openvino-int4", "openvino-fp16")
    built("openvino-int4-g64", "openvino-fp16")
    built("genai-dml-int4", "genai-dml-fp16")
    if (NPU_LIBRARY / ".installed").is_file():
        built("npu-library-int8")
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    for count in (FEW, MANY):
        tokens = np.random.default_rng(0).integers(3, vocabulary, count)
        exact = reference(source, tokens)
        found = {
            "fp16": mean_kl(exact, openvino_builds.log_probabilities(fp16, tokens)),
            "dml": mean_kl(exact, onnx_genai_builds.log_probabilities(dml, tokens.astype("i4"))),
            "cpu": mean_kl(exact, onnx_genai_builds.log_probabilities(cpu, tokens.astype("i4"))),
        }
        print(count, found)
        assert found["fp16"] < 1e-9
        assert found["dml"] < 1e-4
        assert found["cpu"] < 0.3  # INT4 of random weights
