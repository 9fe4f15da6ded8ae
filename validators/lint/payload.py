"""Lint a payload: find what can be known before any prompt.

An artifact with a failure is not opened. Types, shapes and values are those of the stored bytes,
whatever a description of them says.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from phiforge.artifact.payload_files import (
    NPU_PROFILE,
    OPENVINO_IR,
    OPENVINO_TOKENIZER,
    OPENVINO_WEIGHTS,
    TOKENIZER,
)
from phiforge.artifact.record import RecordError, read_record
from phiforge.receipts.receipt import Failure
from validators.contract import ArtifactError, some
from validators.lint import openvino_ir
from validators.lint.rounding import Matrix, is_rounded
from validators.lint.tokenizer import chat_template, lint_vocabulary
from validators.reference_tree import Reference


def lint(payload: Path, *, variant: Mapping[str, Any], reference: Reference) -> list[Failure]:
    """Compare a payload with what its variant declares and with its source's tokenizer.

    Args:
        payload: folder whose digests have been verified.
        variant: the variant's block, of which ``format`` and ``options`` are read; of a format
            without a lint of its own only the tokenizer is.
        reference: of the payload's model.
    """
    lint_format = _LINTS.get(variant["format"])
    try:
        failures = lint_format(payload, variant["options"]) if lint_format else []
        return failures + _lint_tokenizer(payload, reference)
    except ArtifactError as error:
        return [Failure(error.name, str(error))]


def _lint_openvino(payload: Path, options: Mapping[str, Any]) -> list[Failure]:
    ir = openvino_ir.read_ir(payload / OPENVINO_IR)
    weights = payload / OPENVINO_WEIGHTS
    found = openvino_ir.lint_ir(ir, options) + _lint_profile(payload, options)
    missing = openvino_ir.lint_bytes(ir, weights)
    return found + (missing or _lint_values(openvino_ir.mapped_matrices(ir, weights)))


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


def _lint_onnx_genai(payload: Path, options: Mapping[str, Any]) -> list[Failure]:
    from validators.lint import onnx_graph  # needs onnx, which only these payloads' devices have

    graph = onnx_graph.read_graph(payload)
    found = onnx_graph.lint_graph(graph, options) + onnx_graph.lint_config(payload, options)
    missing = onnx_graph.lint_bytes(graph, payload)
    return found + (missing or _lint_values(onnx_graph.mapped_matrices(graph, payload)))


_LINTS: Mapping[str, Callable[[Path, Mapping[str, Any]], list[Failure]]] = {
    "openvino": _lint_openvino,
    "onnx-genai": _lint_onnx_genai,
}


def _lint_values(matrices: Iterator[Matrix]) -> list[Failure]:
    kinds: dict[int, list[str]] = {}
    for matrix in matrices:
        if is_rounded(matrix):
            kinds.setdefault(matrix.bits, []).append(matrix.name)
    return [
        Failure(
            "rounded-weights",
            f"{len(names)} matrices are stored in {bits} bits but hold no more than "
            f"{'3' if bits == 4 else '4'}: {some(sorted(names))}",
        )
        for bits, names in sorted(kinds.items())
    ]


def _lint_tokenizer(payload: Path, reference: Reference) -> list[Failure]:
    found = []
    if (payload / TOKENIZER).is_file():
        found += lint_vocabulary(payload, Tokenizer.from_file(str(reference.tokenizer)))
    source = reference.chat_template
    if source is None:
        return found
    if chat_template(payload) != source:
        found.append(Failure("chat-template", "the payload's chat template is not the source's"))
    tokenizer_ir = payload / OPENVINO_TOKENIZER  # OpenVINO GenAI takes the template from here
    if (
        isinstance(source, str)
        and tokenizer_ir.is_file()
        and openvino_ir.read_ir(tokenizer_ir).chat_template != source
    ):
        what = f"the chat template in {OPENVINO_TOKENIZER} is not the source's"
        found.append(Failure("chat-template", what))
    return found
