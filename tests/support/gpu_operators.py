"""Single operators in OpenVINO's GPU and CPU plugins, run in the tree of `make intel-gpu`.

    python3.11 gpu_operators.py softmax

Prints JSON: ``devices`` that OpenVINO lists, ``about`` the GPU, and the largest ``error`` of the
GPU's result against the CPU's.
"""

import json
import sys

import numpy as np
import openvino
from openvino import opset14 as ops

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


def main(operator: str) -> None:
    core = openvino.Core()
    found: dict[str, object] = {"devices": core.available_devices}
    if "GPU" in core.available_devices:
        names = ("FULL_DEVICE_NAME", "DEVICE_ARCHITECTURE", "GPU_EXECUTION_UNITS_COUNT")
        found["about"] = {name: core.get_property("GPU", name) for name in names}
        model, given = {"softmax": softmax, "norm": norm}[operator]()
        pinned = {"INFERENCE_PRECISION_HINT": "f32"}
        gpu, cpu = (core.compile_model(model, name, pinned)(given)[0] for name in ("GPU", "CPU"))
        found["error"] = float(np.abs(gpu - cpu).max())
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
