"""Lint a payload: find what can be known before any prompt.

An artifact with a failure is not opened. Types, shapes and values are those of the stored bytes,
whatever a description of them says.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from tokenizers import Tokenizer

from phiforge.artifact.payload_files import (
    NPU_LIBRARY_LAYOUT,
    NPU_PROFILE,
    OPENVINO_IR,
    OPENVINO_WEIGHTS,
    TOKENIZER,
)
from phiforge.artifact.record import RecordError, read_record
from phiforge.receipts.receipt import Failure, Note
from phiforge.sources.weights import mapped_source_weights
from validators.contract import ArtifactError, some
from validators.lint import ir_weights, npu_library_weights, openvino_ir
from validators.lint.architecture import Architecture, read_architecture
from validators.lint.constants import lint_ir_constants
from validators.lint.ir_form import lint_ir_form
from validators.lint.source_files import lint_files, lint_genai_config
from validators.lint.tokenizer import chat_template, lint_irs, lint_vocabulary
from validators.lint.weights import Stored
from validators.reference_tree import Reference


def lint(
    payload: Path, *, variant: Mapping[str, Any], reference: Reference, source: Path | None = None
) -> list[Failure]:
    """Compare a payload with what its variant declares and with its source.

    Args:
        payload: folder whose digests have been verified.
        variant: the variant's block, of which ``format`` and ``options`` are read; of a format
            without a lint of its own only the tokenizer is.
        reference: of the payload's model.
        source: the model's files, to which the weights are held; None: they are not here.

    Raises:
        SourceError: the source has no weights, or lacks one.
    """
    lint_format = _LINTS.get(variant["format"])
    try:
        failures = lint_format(payload, variant["options"], source) if lint_format else []
        if source is not None and lint_format is not None:
            failures += lint_files(payload, source, variant)
        return failures + _lint_tokenizer(payload, reference)
    except ArtifactError as error:
        return [Failure(error.name, str(error))]
    except RecordError as error:
        return [Failure("unreadable-config", str(error))]


def not_held(source: Path | None) -> tuple[Note, ...]:
    """Say in a receipt that the weights were not held to the source, and why."""
    if source is None:
        what = "the source is not on this machine; the build machine's receipts held the weights"
        return (Note("weights-not-held", what),)
    if read_architecture(source) is None:
        what = "only the places of a Phi-3's weights are known (model_type phi3)"
        return (Note("weights-not-held", what),)
    return ()


@contextmanager
def found_weights(
    payload: Path, variant: Mapping[str, Any], architecture: Architecture
) -> Iterator[list[Stored]]:
    """Find the weights of a payload that `lint` has passed; they stay mapped within."""
    if variant["format"] == "npu-library":
        with mapped_source_weights(payload) as tensors:
            yield npu_library_weights.find_weights(tensors, architecture)[0]
    elif variant["format"] == "onnx-genai":
        from validators.lint import onnx_graph, onnx_weights

        graph = onnx_graph.read_graph(payload)
        yield onnx_weights.find_weights(graph, payload, architecture, searched=False)[0]
    else:
        ir = openvino_ir.read_ir(payload / OPENVINO_IR)
        yield ir_weights.find_weights(ir, payload / OPENVINO_WEIGHTS, architecture)[0]


def _lint_openvino(payload: Path, options: Mapping[str, Any], source: Path | None) -> list[Failure]:
    ir = openvino_ir.read_ir(payload / OPENVINO_IR)
    found = openvino_ir.lint_ir(ir, options) + _lint_profile(payload, options)
    return found + _lint_ir_weights(ir, payload, options, source)


def _lint_npu_blob(payload: Path, options: Mapping[str, Any], source: Path | None) -> list[Failure]:
    return _lint_ir_weights(openvino_ir.read_ir(payload / OPENVINO_IR), payload, options, source)


def _lint_ir_weights(
    ir: openvino_ir.Ir, payload: Path, options: Mapping[str, Any], source: Path | None
) -> list[Failure]:
    weights = payload / OPENVINO_WEIGHTS
    found = openvino_ir.lint_runtime_options(ir, options)
    missing = openvino_ir.lint_bytes(ir, weights)
    architecture = _architecture(source)
    if missing or architecture is None:
        return found + missing
    data = np.memmap(weights, dtype=np.uint8, mode="r")
    found += lint_ir_constants(ir, data, architecture) + lint_ir_form(ir, data, architecture)
    return found + _hold(lambda model: ir_weights.find_weights(ir, weights, model), source)


def _lint_onnx_genai(
    payload: Path, options: Mapping[str, Any], source: Path | None
) -> list[Failure]:
    # these need onnx, which only these payloads' devices have
    from validators.lint import onnx_constants, onnx_form, onnx_graph, onnx_weights

    graph = onnx_graph.read_graph(payload)
    found = onnx_graph.lint_graph(graph, options) + onnx_graph.lint_config(payload, options)
    missing = onnx_graph.lint_bytes(graph, payload)
    architecture = _architecture(source)
    if missing or source is None or architecture is None:
        return found + missing
    provider = options["execution_provider"]
    found += onnx_constants.lint_constants(graph, payload, architecture, provider)
    found += onnx_form.lint_onnx_form(graph, architecture)
    if not any(failure.name == "unreadable-config" for failure in found):
        found += lint_genai_config(payload, source, architecture, provider)
    searched = options.get("algo_config", "default") != "default"
    return found + _hold(
        lambda model: onnx_weights.find_weights(graph, payload, model, searched=searched), source
    )


def _lint_npu_library(
    payload: Path, options: Mapping[str, Any], source: Path | None
) -> list[Failure]:
    stated = read_record(payload / NPU_LIBRARY_LAYOUT)
    computes = {"attn_implementation": "sdpa", "computes_in": "float32", **options}
    wrong = [key for key, value in computes.items() if stated.get(key) != value]
    found = (
        [Failure("other-configuration", f"{NPU_LIBRARY_LAYOUT}: {some(wrong)}")] if wrong else []
    )
    if source is None:
        return found
    with mapped_source_weights(payload) as tensors:
        return found + _hold(lambda model: npu_library_weights.find_weights(tensors, model), source)


def _hold(
    find: Callable[[Architecture], tuple[list[Stored], list[Failure]]], source: Path | None
) -> list[Failure]:
    """Hold the weights that ``find`` finds to the source, where there is one of a known model."""
    architecture = _architecture(source)
    if source is None or architecture is None:
        return []
    from validators.lint.held_weights import hold_to_source  # torch takes seconds to import

    stored, failures = find(architecture)
    with mapped_source_weights(source) as tensors:
        return failures + hold_to_source(stored, tensors, source)


def _architecture(source: Path | None) -> Architecture | None:
    return None if source is None else read_architecture(source)


_Lint: TypeAlias = Callable[[Path, Mapping[str, Any], Path | None], list[Failure]]
_LINTS: Mapping[str, _Lint] = {
    "openvino": _lint_openvino,
    "npu-blob": _lint_npu_blob,
    "onnx-genai": _lint_onnx_genai,
    "npu-library": _lint_npu_library,
}


def _lint_profile(payload: Path, options: Mapping[str, Any]) -> list[Failure]:
    """Compare an NPU variant's profile with its options: it is run with exactly these."""
    if "npu" not in options:
        return []
    try:
        found = read_record(payload / NPU_PROFILE).get("pipeline_options")
    except RecordError as error:
        return [Failure("npu-profile", str(error))]
    if found == options["npu"]:
        return []
    what = f"{NPU_PROFILE} says {found}, the variant declares {options['npu']}"
    return [Failure("npu-profile", what)]


def _lint_tokenizer(payload: Path, reference: Reference) -> list[Failure]:
    found = lint_irs(payload, reference.tokenizer_irs)
    if (payload / TOKENIZER).is_file():
        found += lint_vocabulary(payload, Tokenizer.from_file(str(reference.tokenizer)))
    source = reference.chat_template
    if source is None:
        return found
    if chat_template(payload) != source:
        found.append(Failure("chat-template", "the payload's chat template is not the source's"))
    return found
