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

_FIXED = {
    "tool": "nncf.compress_weights",
    "compression_format": "dequantize",
    "dataset": None,
}
_4_BIT_DEFAULTS = {
    "all_layers": False,
    "awq": False,
    "backup_mode": "int8_asym",
    "sensitivity_metric": "weight_quantization_error",
    "scale_estimation": False,
    "gptq": False,
    "lora_correction": False,
    "group_size_fallback": "error",
}
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
    """Every argument of ``nncf.compress_weights`` in JSON's terms, defaults included.

    Where the parts of a model have forms of their own, each has those of its call.
    """
    if options["weight_format"] == "int8":
        # optimum-cli's int8 without --sym; nncf takes no other option in this mode
        return {**_FIXED, **_int8("int8_asym")}
    if "int4_matrices" not in options:
        return {**_FIXED, **_4_bits(options)}
    # all_layers: else nncf takes the last of a part's matrices for the LM head, which gets INT8
    whole = {"weight_format": "int4", "ratio": 1.0, "all_layers": True}
    parts = [
        {**_4_bits({**whole, **part}), "names": list(part["names"])}
        for part in options["int4_matrices"]
    ]
    backup = options.get("backup_mode", _4_BIT_DEFAULTS["backup_mode"])
    return {**_FIXED, **_int8(backup), "int4_matrices": parts}


def _int8(mode: str) -> dict[str, Any]:
    return {"mode": mode, "ratio": 1.0, "group_size": -1}


def _4_bits(options: Options) -> dict[str, Any]:
    return {
        "mode": _mode(options),
        "ratio": float(options["ratio"]),
        "group_size": options["group_size"],
        **{key: options.get(key, default) for key, default in _4_BIT_DEFAULTS.items()},
    }


def _mode(options: Options) -> str:
    if options["weight_format"] == "nf4":
        return "nf4"
    return "int4_sym" if options["symmetric"] else "int4_asym"


def _compress(graph: ov.Model, recipe: Mapping[str, Any]) -> ov.Model:
    """Compress the parts with forms of their own, then all that is left.

    A call of nncf leaves alone what an earlier one has compressed.

    Raises:
        ConvertError: the graph has no such matrix: the placement is of another model.
    """
    parts = recipe.get("int4_matrices", ())
    readers = {name: reader(constant) for name, constant in weight_constants(graph)}
    for part in parts:
        if unknown := sorted(set(part["names"]) - set(readers)):
            raise ConvertError(
                f"the model has no matrix '{unknown[0]}', which its placement names",
                remedy="measure it anew: snakemake placement",
            )
        others = [node for name, node in readers.items() if name not in part["names"]]
        graph = _called(graph, part, others)
    return _called(graph, recipe)


def _called(graph: ov.Model, recipe: Mapping[str, Any], ignored: Sequence[str] = ()) -> ov.Model:
    import nncf

    arguments: dict[str, Any] = {
        "mode": nncf.CompressWeightsMode(recipe["mode"]),
        "ratio": recipe["ratio"],
        "group_size": recipe["group_size"],
        "dataset": _FIXED["dataset"],
        "compression_format": nncf.CompressionFormat(_FIXED["compression_format"]),
        "ignored_scope": nncf.IgnoredScope(names=list(ignored)),
    }
    if recipe["mode"] not in ("int8_asym", "int8_sym"):
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
