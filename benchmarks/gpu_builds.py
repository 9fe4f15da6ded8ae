"""Compare the bytes that the model builder makes of phi3-tiny for several GPU providers.

    python benchmarks/gpu_builds.py

Each provider's INT4 build, and CUDA's and WebGPU's with the other's accuracy level. The KL
divergence is of each graph on the CPU. Writes gpu_builds.json beside this file.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
import onnx

from machine import facts
from phiforge.artifact.tree import sha256_file
from support.onnx_genai_builds import log_probabilities, official
from support.parity import MODEL, mean_kl, reference

COMMON = {"precision": "int4", "windowed_kv_cache": "false", "shared_embeddings": "false"}
BUILDS: dict[str, dict[str, Any]] = {
    "cuda": {"execution_provider": "cuda"},
    "cuda, accuracy_level 4": {"execution_provider": "cuda", "accuracy_level": 4},
    "webgpu": {"execution_provider": "webgpu"},
    "webgpu, accuracy_level 0": {"execution_provider": "webgpu", "accuracy_level": 0},
    "dml": {"execution_provider": "dml"},
    "NvTensorRtRtx": {"execution_provider": "NvTensorRtRtx"},
}


def main() -> None:
    tokens = np.random.default_rng(0).integers(3, 1600, 200)
    exact = reference(MODEL, tokens)
    found = {}
    with tempfile.TemporaryDirectory() as name:
        for number, (build, options) in enumerate(BUILDS.items()):
            into = official(MODEL, Path(name) / str(number), {**COMMON, **options})
            graph = onnx.load(into / "model.onnx", load_external_data=False).graph
            config = json.loads((into / "genai_config.json").read_text(encoding="utf-8"))
            found[build] = {
                "model.onnx": sha256_file(into / "model.onnx")[:12],
                "model.onnx.data": sha256_file(into / "model.onnx.data")[:12],
                "nodes": len(graph.node),
                "mean_kl": mean_kl(exact, log_probabilities(into, tokens.astype("i4"))),
                "provider_options": config["model"]["decoder"]["session_options"][
                    "provider_options"
                ],
            }
    result = {"machine": facts(), "builds": found}
    into = Path(__file__).with_suffix(".json")
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
