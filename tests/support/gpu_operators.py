"""Single operators in OpenVINO's GPU and CPU plugins, run in the tree of `make intel-gpu`.

    python3.11 gpu_operators.py softmax [PROPERTY=VALUE]...
    python3.11 gpu_operators.py artifacts/build/phi3-tiny/openvino-fp16/payload [PROPERTY=VALUE]...

The properties are the GPU's. Prints JSON: ``devices`` that OpenVINO lists, ``about`` the GPU, the
largest ``error`` of the GPU's result against the CPU's in float32, and ``kl``, the largest KL
divergence of a position where both are logits: of a whole IR, given 5 tokens (or TOKENS=<count>).
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset14 as ops

from phiforge.artifact.payload_files import OPENVINO_IR
from validators.metrics import log_probabilities
from validators.openvino_pipeline import inputs_of
from validators.runtimes.openvino import PINNED

NOISE = np.random.default_rng(0).standard_normal((1, 3, 256), np.float32)


def softmax() -> tuple[openvino.Model, np.ndarray]:
    """45 elements: the last sub-group is a partial one."""
    values = ops.parameter([1, 3, 45], np.float32)
    return openvino.Model([ops.softmax(values, -1)], [values]), NOISE[..., :45].copy()


def norm() -> tuple[openvino.Model, np.ndarray]:
    """Phi-3's norm, which the plugin fuses into one kernel."""
    values = ops.parameter([1, 3, 256], np.float32)
    square = ops.power(values, ops.constant(np.float32(2)))
    mean = ops.add(
        ops.reduce_mean(square, ops.constant([-1]), keep_dims=True), ops.constant(np.float32(1e-5))
    )
    scaled = ops.multiply(values, ops.divide(ops.constant(np.float32(1)), ops.sqrt(mean)))
    return openvino.Model([ops.multiply(scaled, ops.constant(NOISE[0, 0]))], [values]), NOISE


def product() -> tuple[openvino.Model, np.ndarray]:
    """INT4 weights in groups of 128, as NNCF compresses a layer."""
    values = ops.parameter([1, 3, 256], np.float32)
    levels = np.random.default_rng(1).integers(-8, 8, (256, 2, 128)).astype(np.int8)
    stored = ops.convert(ops.constant(levels, openvino.Type.i4), np.float16)
    scales = ops.constant(np.full((256, 2, 1), 0.01, np.float16))
    weights = ops.convert(ops.reshape(ops.multiply(stored, scales), [256, 256], False), np.float32)
    return openvino.Model([ops.matmul(values, weights, False, True)], [values]), NOISE


def whole(payload: str, tokens: int) -> tuple[openvino.Model, dict[str, Any]]:
    """The IR of ``payload``, and as many tokens for it."""
    model = openvino.Core().read_model(Path(payload) / OPENVINO_IR)
    return model, inputs_of(model, [5 + 37 * at % 900 for at in range(tokens)])


def main(operator: str, *properties: str) -> None:
    core = openvino.Core()
    found: dict[str, object] = {"devices": core.available_devices}
    if "GPU" in core.available_devices:
        names = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "GPU_EXECUTION_UNITS_COUNT")
        found["about"] = {name: core.get_property("GPU", name) for name in names}
        given = dict(one.split("=") for one in properties)
        tokens = int(given.pop("TOKENS", 5))
        single = {"softmax": softmax, "norm": norm, "product": product}.get(operator)
        model, values = whole(operator, tokens) if single is None else single()
        asked = {"GPU": {**PINNED, **given}, "CPU": PINNED}
        gpu, cpu = (core.compile_model(model, name, asked[name])(values)[0] for name in asked)
        found["error"] = float(np.abs(gpu - cpu).max())
        if single is None:
            right, near = log_probabilities(cpu), log_probabilities(gpu)
            found["kl"] = float((np.exp(right) * (right - near)).sum(axis=-1).max())
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
