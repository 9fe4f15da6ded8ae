"""ONNX builds to compare: ours, the model builder's, and a graph's weights."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime_genai as og
import torch
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from converters.contract import BuildRecord
from converters.onnx_genai import convert
from support.parity import run_tool
from validators import metrics


@dataclass(frozen=True)
class Build:
    folder: Path
    record: BuildRecord

    def weights(self) -> dict[str, npt.NDArray[Any]]:
        return weights(self.folder)


def weights(folder: Path) -> dict[str, npt.NDArray[Any]]:
    graph = onnx.load(folder / "model.onnx").graph
    return {one.name: onnx.numpy_helper.to_array(one, folder) for one in graph.initializer}


def built(source: Path, into: Path, options: Mapping[str, Any], base: Build | None = None) -> Build:
    into.mkdir(parents=True)
    return Build(into, convert(source, into, options=options, base=base and base.folder))


def work_tree(folder: Path) -> str:
    """A git work tree with one commit of its own; returns its hash."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", folder], check=True)
    (folder / "file").write_text(str(folder))
    subprocess.run(["git", "-C", folder, "add", "file"], check=True)
    subprocess.run(["git", "-C", folder, *author, "commit", "-q", "-m", str(folder)], check=True)
    head = ["git", "-C", folder, "rev-parse", "HEAD"]
    return subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()


def official(source: Path, into: Path, options: Mapping[str, Any], **environment: str) -> Path:
    """What the model builder's own command makes of ``source``."""
    options = dict(options)
    extra = {"hf_token": "false", "block_size": 32, "is_symmetric": "true"}
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", source, "-o", into]
    command += ["-p", options.pop("precision"), "-e", options.pop("execution_provider")]
    command += ["-c", into.with_name("cache"), "--extra_options"]
    command += [f"{key}={value}" for key, value in {**extra, **options}.items()]
    run_tool(*command, **environment)
    return into


def open_on_cpu(folder: Path) -> og.Model:
    config = og.Config(str(folder))
    config.clear_providers()
    return og.Model(config)


def log_probabilities(folder: Path, tokens: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
    """Of every position, from one pass through the build's own graph on the CPU."""
    model = open_on_cpu(folder)
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(tokens) + 1)
    generator = og.Generator(model, parameters)
    generator.append_tokens(tokens)
    return metrics.log_probabilities(np.array(generator.get_output("logits"))[0])


def quantized_at_once(
    base: Path, algorithm: Any = None, *, is_symmetric: bool = True, block_size: int = 32
) -> dict[str, npt.NDArray[Any]]:
    """What onnxruntime's quantizer makes of a whole graph in memory, as the builder calls it."""
    quantizer = MatMulNBitsQuantizer(
        onnx.load(base / "model.onnx"),
        block_size=block_size,
        is_symmetric=is_symmetric,
        algo_config=algorithm,
    )
    quantizer.process()
    initializers = quantizer.model.model.graph.initializer
    return {one.name: onnx.numpy_helper.to_array(one) for one in initializers}


def twin_of_the_head(tensors: dict[str, torch.Tensor], config: dict[str, Any]) -> None:
    """The same function with 2 * intermediate_size == vocab_size: neurons of zeros are added.

    The builder then takes each gate_up_proj for the LM head, and exits with 0.
    """
    size, vocabulary = config["intermediate_size"], config["vocab_size"]
    zeros = torch.zeros(vocabulary // 2 - size, config["hidden_size"], dtype=torch.bfloat16)
    for name, tensor in tensors.items():
        if name.endswith("gate_up_proj.weight"):
            gate, up = tensor.chunk(2)
            tensors[name] = torch.cat([gate, zeros, up, zeros])
        elif name.endswith("down_proj.weight"):
            tensors[name] = torch.cat([tensor, zeros.T], 1).contiguous()
    config["intermediate_size"] = vocabulary // 2
