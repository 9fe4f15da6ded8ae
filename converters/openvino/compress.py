"""From the FP16 payload to INT8, INT4 and NF4 ones: its graph, the source's weights, nncf's codes.

optimum-cli quantizes the source's bf16 values. The FP16 payload has rounded the smallest of them,
which changes the codes of near-zero rows, so each matrix of its graph is replaced by the
source's own bytes (mapped, not copied) before nncf sees it. The result then equals optimum-cli's.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from converters.contract import BuildRecord, ConvertError, Options
from converters.openvino.ir import (
    number_nodes,
    read_ir,
    reader,
    replace_constant,
    weight_constants,
    writing,
)
from converters.openvino.lint import lint
from converters.openvino.npu import write_npu_profile
from converters.source_files import copy_files
from phiforge.artifact.payload_files import (
    CONFIGURATION,
    OPENVINO_IR,
    TOKENIZER_FILES,
    TOKENIZER_IRS,
)
from phiforge.sources.weights import (
    SourceTensor,
    as_float32,
    mapped_source_weights,
    tensor_of,
)

TOOLCHAIN = ("nncf", "numpy", "openvino")

_4_BIT_DEFAULTS = {"all_layers": False, "awq": False, "backup_mode": "int8_asym"}
_OPENVINO_TYPES = {"BF16": ov.Type.bf16, "F16": ov.Type.f16, "F32": ov.Type.f32}


def compress(source: Path, into: Path, options: Options, base: Path) -> BuildRecord:
    """Write the payload derived from the FP16 payload ``base`` into ``into``.

    Raises:
        ConvertError: ``base`` was not made from ``source``, nncf cannot do what the options ask,
            or did something else.
    """
    recipe = _recipe(options)
    # the graph reads the weights by address: they have to stay mapped until it is written
    with mapped_source_weights(source) as weights:
        graph = read_ir(base / OPENVINO_IR)
        _read_weights_from(weights, graph, source)
        with _without_torch():
            if wide := options.get("int8_matrices"):
                graph = _to_int8(graph, wide, recipe["backup_mode"])
            compressed = _compress(graph, recipe)
        _drop_fp16_cache_hint(compressed)
        number_nodes(compressed)
        with writing(into / OPENVINO_IR):
            ov.save_model(compressed, into / OPENVINO_IR, compress_to_fp16=False)
        lint(into, options)
    irs = [str(Path(name).with_suffix(end)) for name in TOKENIZER_IRS for end in (".xml", ".bin")]
    copy_files(base, into, (*CONFIGURATION, *TOKENIZER_FILES, *irs))
    if "npu" in options:
        write_npu_profile(into, options["npu"], recipe)
    return BuildRecord(
        toolchain={name: version(name) for name in TOOLCHAIN},
        recipe=recipe,
        notes=(
            "weights were quantized from the source's own values, as optimum-cli does, not from "
            "the FP16 payload's",
        ),
    )


def _recipe(options: Options) -> dict[str, Any]:
    """Every argument of ``nncf.compress_weights`` in JSON's terms, defaults included."""
    fixed = {"tool": "nncf.compress_weights", "compression_format": "dequantize", "dataset": None}
    if options["weight_format"] == "int8":
        # optimum-cli's int8 without --sym; nncf takes no other option in this mode
        return {**fixed, "mode": "int8_asym", "ratio": 1.0, "group_size": -1}
    return {
        **fixed,
        "mode": _mode(options),
        **({"int8_matrices": list(wide)} if (wide := options.get("int8_matrices")) else {}),
        "ratio": float(options["ratio"]),
        "group_size": options["group_size"],
        **{key: options.get(key, default) for key, default in _4_BIT_DEFAULTS.items()},
        "sensitivity_metric": "weight_quantization_error",
        "scale_estimation": False,
        "gptq": False,
        "lora_correction": False,
        "group_size_fallback": "error",
    }


def _mode(options: Options) -> str:
    if options["weight_format"] == "nf4":
        return "nf4"
    return "int4_sym" if options["symmetric"] else "int4_asym"


def _to_int8(graph: ov.Model, names: Sequence[str], mode: str) -> ov.Model:
    """Give these matrices INT8; a call of nncf leaves alone what an earlier one has compressed.

    Raises:
        ConvertError: the graph has no such matrix: the placement is of another model.
    """
    import nncf

    readers = {name: reader(constant) for name, constant in weight_constants(graph)}
    if unknown := sorted(set(names) - set(readers)):
        raise ConvertError(
            f"the model has no matrix '{unknown[0]}', which its placement names",
            remedy="measure it anew: snakemake placement",
        )
    others = [node for name, node in readers.items() if name not in names]
    return nncf.compress_weights(
        graph,
        mode=nncf.CompressWeightsMode(mode),
        ignored_scope=nncf.IgnoredScope(names=others),
    )


def _compress(graph: ov.Model, recipe: Mapping[str, Any]) -> ov.Model:
    import nncf

    arguments: dict[str, Any] = {
        "mode": nncf.CompressWeightsMode(recipe["mode"]),
        "ratio": recipe["ratio"],
        "group_size": recipe["group_size"],
        "dataset": recipe["dataset"],
        "compression_format": nncf.CompressionFormat(recipe["compression_format"]),
        "ignored_scope": nncf.IgnoredScope(),
    }
    if recipe["mode"] != "int8_asym":
        arguments |= {
            "all_layers": recipe["all_layers"],
            "awq": recipe["awq"],
            "backup_mode": nncf.BackupMode(recipe["backup_mode"]),
            "sensitivity_metric": nncf.SensitivityMetric(recipe["sensitivity_metric"]),
            "scale_estimation": recipe["scale_estimation"],
            "gptq": recipe["gptq"],
            "lora_correction": recipe["lora_correction"],
            "advanced_parameters": nncf.AdvancedCompressionParameters(
                group_size_fallback_mode=nncf.GroupSizeFallbackMode(recipe["group_size_fallback"])
            ),
        }
    try:
        return nncf.compress_weights(graph, **arguments)
    except (nncf.ValidationError, nncf.InvalidGroupSizeError) as error:
        raise ConvertError(
            f"nncf cannot compress this model so ({str(error).partition('. ')[0]})",
            remedy="choose another group_size for it, or leave the variant out",
        ) from None


@contextmanager
def _without_torch() -> Iterator[None]:
    """Keep nncf from importing torch, which its OpenVINO backend does not need (2 s, 150 MB)."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]  # Python's way to block an import
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]


def _read_weights_from(tensors: Mapping[str, SourceTensor], graph: ov.Model, source: Path) -> None:
    for name, constant in weight_constants(graph):
        tensor = tensor_of(name, tensors, source)
        _refuse_other_model(name, constant, tensor)
        mapped = ov.Tensor(tensor.data, constant.shape, _OPENVINO_TYPES[tensor.dtype])
        replace_constant(constant, ov.op.Constant(mapped, shared_memory=True))
    graph.validate_nodes_and_infer_types()


def _refuse_other_model(name: str, constant: ov.Node, tensor: SourceTensor) -> None:
    """Compare shape and first row: a payload of another model must not lend its graph."""
    first = as_float32(tensor, slice(1))
    same_shape = tuple(constant.shape) == tensor.data.shape
    if not same_shape or not np.array_equal(constant.data[:1], first.astype(np.float16)):
        raise ConvertError(
            f"the FP16 payload and the source differ in '{name}'",
            expected=f"{tensor.data.shape} with the source's values",
            found=f"{tuple(constant.shape)} with {'other' if same_shape else 'its own'} values",
            remedy="rebuild the variant named by 'from:'",
        )


def _drop_fp16_cache_hint(compressed: ov.Model) -> None:
    """As optimum does: the hint to keep the KV cache in fp16 is for uncompressed models."""
    runtime_options = compressed.get_rt_info("runtime_options").value
    runtime_options.pop("KV_CACHE_PRECISION", None)
    compressed.set_rt_info(runtime_options, "runtime_options")
