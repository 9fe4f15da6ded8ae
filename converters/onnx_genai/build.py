"""From a source, or a float16 payload of it, to a payload that onnxruntime-genai loads."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from converters.contract import BuildRecord, Options
from converters.onnx_genai.checkpoint import Checkpoint
from converters.onnx_genai.graph import open_graph
from converters.onnx_genai.inspection import check_base, check_payload
from converters.onnx_genai.matmul_nbits import BITS, Int4Settings, quantize_graph
from converters.onnx_genai.model_builder import Quantize, run_model_builder
from converters.source_files import copy_source_files
from phiforge.artifact.payload_files import GENAI_CONFIG, ONNX_GRAPH, ONNX_WEIGHTS

TOOLCHAIN = (
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-genai",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)

# The builder's cache of the window's size (its default) fails at run time: without `layer_types`
# beyond the window, with them for any `max_length` below it.
BUILDER_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"windowed_kv_cache": False},
    "cuda": {"windowed_kv_cache": False, "enable_cuda_graph": False},
    "dml": {"enable_dml_graph": True},
    "webgpu": {"windowed_kv_cache": False, "enable_webgpu_graph": False},
}
"""By execution provider; the graph options are the builder's defaults, passed to be recorded."""

FIXED_OPTIONS: Mapping[str, Any] = {
    "hf_token": False,
    "hf_remote": False,
    # The builder would read a tied model's tokens from its INT4 head (GatherBlockQuantized, which
    # DirectML lacks). A float embedding is nearer to the source and runs everywhere.
    "shared_embeddings": False,
}


def build(source: Path, into: Path, options: Options, base: Path | None) -> BuildRecord:
    """Write the payload; see `converters.onnx_genai.convert`."""
    checkpoint = Checkpoint(source)
    provider, precision = options["execution_provider"], options["precision"]
    if provider != "cpu" and base is None:  # a base was not built of what does not fit
        checkpoint.refuse_beyond_float16()
    settings = int4_settings(options) if precision == "int4" else None
    quantize = partial(quantize_graph, settings=settings) if settings else None
    if base is not None and quantize is not None:
        check_base(base, provider)
        _derive(base, into, quantize)
        recipe: dict[str, Any] = {"tool": "onnxruntime.quantization.MatMulNBitsQuantizer"}
    else:
        configuration = _window_configuration(checkpoint, provider)
        extra_options = {
            **FIXED_OPTIONS,
            **BUILDER_OPTIONS[provider],
            **(_told(settings) if settings else {}),
        }
        run_model_builder(
            source,
            into,
            precision=precision,
            execution_provider=provider,
            extra_options=extra_options,
            configuration=configuration,
            quantize=quantize,
        )
        recipe = {
            "tool": "onnxruntime_genai.models.builder",
            "configuration": configuration,
            "extra_options": extra_options,
        }
    copy_source_files(source, into)
    check_payload(into, options)
    recipe |= {"precision": precision, "execution_provider": provider}
    if settings:
        recipe["quantization"] = {
            **_told(settings),
            "bits": BITS,
            "op_types_to_quantize": ["MatMul"],
            "quant_format": "QOperator",
        }
    return BuildRecord(
        toolchain={name: version(name) for name in TOOLCHAIN},
        recipe=recipe,
        notes=_notes(checkpoint, provider),
    )


def int4_settings(options: Options) -> Int4Settings:
    """The INT4 options, with the defaults that the schema names."""
    return Int4Settings(
        block_size=options.get("block_size", 32),
        is_symmetric=options.get("is_symmetric", True),
        algo_config=options.get("algo_config", "default"),
        accuracy_level=options.get("accuracy_level", 0),
        matmul_mixed_precision=options.get("matmul_mixed_precision"),
    )


def _told(settings: Int4Settings) -> dict[str, Any]:
    """The settings in the model builder's words, which has none for what is not asked for."""
    return {name: value for name, value in asdict(settings).items() if value is not None}


def _derive(base: Path, into: Path, quantize: Quantize) -> None:
    """Quantize the payload ``base``, whose weights stay mapped, into ``into``."""
    graph = quantize(open_graph(base / ONNX_GRAPH))
    ir.save(graph, into / ONNX_GRAPH, external_data=ONNX_WEIGHTS, size_threshold_bytes=0)
    shutil.copyfile(base / GENAI_CONFIG, into / GENAI_CONFIG)


def _window_configuration(checkpoint: Checkpoint, provider: str) -> dict[str, Any]:
    """What tells the builder of the source's sliding window, where the provider has one.

    The builder windows a layer only if ``layer_types`` says so, which Phi-3's configuration does
    not have. onnxruntime's CPU and CUDA kernels know `local_window_size`; DirectML's ignores it.
    """
    if provider == "dml" or checkpoint.window is None or "layer_types" in checkpoint.config:
        return {}
    return {"layer_types": ["sliding_attention"] * int(checkpoint.config["num_hidden_layers"])}


def _notes(checkpoint: Checkpoint, provider: str) -> tuple[str, ...]:
    notes = [
        "tokenizer and configuration files are the source's own; the model builder rewrites them",
        "producer_version names the builder's wheel; by itself it names the surrounding checkout",
    ]
    window = checkpoint.window
    if window is not None and provider == "dml":
        notes.append(
            f"attention reaches all earlier tokens, the source's the last {window}: onnxruntime's "
            f"DirectML kernel has no sliding window, so beyond {window} tokens the two differ"
        )
    elif window is not None:
        notes.append(
            f"attention reaches the last {window} tokens, as the source's does, with a cache for "
            "all; the model builder by itself sizes the cache for the window but not the "
            "attention, and its build stops with an error beyond it"
        )
    if checkpoint.config.get("tie_word_embeddings"):
        notes.append(
            "the embedding is a float matrix of its own; the model builder would tie it to the head"
        )
    if twins := checkpoint.linears_of_vocabulary_size():
        notes.append(
            f"the model builder takes every Linear with vocab_size outputs for the LM head: here "
            f"also {len(twins)} matrices such as '{twins[0]}'; its graph is probably wrong"
        )
    return tuple(notes)
