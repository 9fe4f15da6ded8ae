"""IRs to compare: a model with near-zero rows, converted by us and by optimum-cli."""

import json
import re
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov
import torch

from converters.openvino.ir import read_ir
from support.checkout import ROOT
from support.parity import run_tool
from validators import metrics

FP16 = {"weight_format": "fp16"}
INT8 = {"weight_format": "int8"}
INT4 = {"weight_format": "int4", "symmetric": True, "group_size": 128, "ratio": 0.6}
NF4 = {"weight_format": "nf4", "group_size": -1, "ratio": 1.0}
G64 = {"weight_format": "int4", "symmetric": False, "group_size": 64, "ratio": 1.0}
PIPELINE_OPTIONS = {
    "MAX_PROMPT_LEN": 256,
    "MIN_RESPONSE_LEN": 32,
    "PREFILL_HINT": "DYNAMIC",
    "GENERATE_HINT": "FAST_COMPILE",
}
NPU = {**INT4, "ratio": 1.0, "npu": PIPELINE_OPTIONS}
DERIVED = {"g64": G64, "int4": INT4, "int8": INT8, "nf4": NF4}
OFFICIAL = {
    "g64": ("--weight-format", "int4", "--group-size", "64", "--ratio", "1.0"),
    "int4": ("--weight-format", "int4", "--group-size", "128", "--ratio", "0.6", "--sym"),
    "int8": ("--weight-format", "int8"),
    "nf4": ("--weight-format", "nf4", "--sym", "--group-size", "-1", "--ratio", "1.0"),
    "fp16": ("--weight-format", "fp16"),
}
EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}
_CONVERT = """
import json, sys
from pathlib import Path
from converters.openvino import convert
source, into, options, base = sys.argv[1:]
record = convert(
    Path(source), Path(into), options=json.loads(options), base=Path(base) if base else None
)
print(json.dumps([record.toolchain, record.recipe, record.notes]))
"""
_COUNTED_NAME = re.compile(r"^[A-Za-z0-9]+_\d+(\.\d+)?$")


def run_ours(
    source: Path,
    into: Path,
    options: Mapping[str, Any],
    base: Path | None = None,
    **environment: str,
) -> Any:
    """Convert in a process of its own; return its toolchain, recipe and notes."""
    into.mkdir(parents=True)
    arguments = (source, into, json.dumps(options), base or "")
    said = run_tool(sys.executable, "-c", _CONVERT, *arguments, cwd=ROOT, **environment)
    return json.loads(said.splitlines()[-1])


def run_optimum_cli(source: Path, into: Path, *flags: str) -> None:
    """Run the guide's command with these flags."""
    command = (Path(sys.executable).parent / "optimum-cli", "export", "openvino")
    task = ("--task", "text-generation-with-past")
    run_tool(*command, "--model", source, *task, *flags, into)


def near_zero_rows(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """Scale rows of every layer down to 1e-5 .. 1e-8."""
    for name, weight in tensors.items():
        if weight.ndim == 2 and ".layers." in name:
            for magnitude, first in ((1e-5, 1), (1e-6, 2), (1e-7, 3), (1e-8, 4)):
                rows = weight[first::50].float()
                scaled = rows / rows.abs().amax(dim=1, keepdim=True) * magnitude
                weight[first::50] = scaled.to(weight.dtype)


class Builds:
    """Builds of ours and of optimum-cli, two at a time, each made once."""

    def __init__(self, source: Path, folder: Path, pool: ThreadPoolExecutor) -> None:
        self.folder = folder
        fp16 = folder / "ours/fp16"
        first = pool.submit(run_ours, source, fp16, FP16)
        self._records: dict[str, Future[Any]] = {"fp16": first}
        self._official = {
            name: pool.submit(run_optimum_cli, source, folder / "official" / name, *flags)
            for name, flags in OFFICIAL.items()
        }

        def derive(name: str) -> Any:
            first.result()
            return run_ours(source, folder / "ours" / name, DERIVED[name], fp16)

        self._records |= {name: pool.submit(partial(derive, name)) for name in DERIVED}

    def record(self, name: str) -> Any:
        return self._records[name].result()

    def ours(self, name: str) -> Path:
        self.record(name)
        return self.folder / "ours" / name

    def official(self, name: str) -> Path:
        self._official[name].result()
        return self.folder / "official" / name


def describe(ir: Path) -> list[tuple[Any, ...]]:
    """Return every operation of an IR in topological order.

    Each has its kind, name, attributes, the places of what it reads, and a constant's type, shape
    and bytes. Names that openvino makes from a process-wide counter become ``#``.
    """
    operations = read_ir(ir).get_ordered_ops()
    places = {node.get_friendly_name(): place for place, node in enumerate(operations)}
    return [
        (
            node.get_type_name(),
            _COUNTED_NAME.sub("#", node.get_friendly_name()),
            {key: str(value) for key, value in node.get_attributes().items()},
            [places[value.get_node().get_friendly_name()] for value in node.input_values()],
            content(node) if node.get_type_name() == "Constant" else None,
        )
        for node in operations
    ]


def content(constant: ov.Node) -> tuple[str, tuple[int, ...], bytes]:
    """Return a constant's type, shape and bytes."""
    kind = constant.get_element_type().get_type_name()
    return kind, tuple(constant.shape), constant.data.tobytes()


def differences(ours: Path, theirs: Path) -> list[Any]:
    """Return operations that differ, pairwise; empty: the same graph of the same bytes."""
    pairs = zip_longest(describe(ours), describe(theirs))
    return [(left, right) for left, right in pairs if left != right]


def log_probabilities(folder: Path, token_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Run the IR on the CPU in float32; return log-probabilities (tokens, vocabulary)."""
    compiled = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", EXACT)
    count = len(token_ids)
    results = compiled.create_infer_request().infer(
        {
            "input_ids": token_ids[None],
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
    )
    return metrics.log_probabilities(results["logits"][0])
