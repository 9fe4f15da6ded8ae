"""The lint of a payload: what can be said of an artifact before any prompt.

Failures stand against the artifact, and it is not opened then; notes are only reported. Types,
shapes and values are those of the stored bytes, not of anybody's account of them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from validators.contract import ArtifactError, CheckError
from validators.lint import openvino_ir
from validators.lint.finding import Finding, some
from validators.lint.rounding import Matrix, is_rounded
from validators.lint.tokenizer import chat_template, lint_vocabulary
from validators.reference_tree import Reference


@dataclass(frozen=True)
class LintReport:
    """What a lint found.

    Attributes:
        failures: each with its own name; the verdict is ``failed`` if there are any.
        notes: reported in the receipt, not judged.
    """

    failures: tuple[Finding, ...]
    notes: tuple[Finding, ...] = ()


def lint(payload: Path, *, variant: Mapping[str, Any], reference: Reference) -> LintReport:
    """Hold a payload against what its variant declares and against its source's tokenizer.

    Args:
        payload: folder whose digests have been verified.
        variant: the variant's block, of which ``format`` and ``options`` are asked; a format
            without a lint of its own has its tokenizer looked at only.
        reference: of the payload's model.

    Raises:
        CheckError: the variant's options are not told.
    """
    look = _LINTS.get(variant["format"])
    if look is not None and "options" not in variant:
        raise CheckError(
            "a check must be told the variant's options, to hold the artifact against them",
            where="--variant-config",
            expected="format, precision, options",
            found=", ".join(sorted(variant)),
            remedy="give the variant's whole block",
        )
    try:
        failures = look(payload, variant["options"]) if look else []
        failures += _lint_tokenizer(payload, reference)
    except ArtifactError as error:
        failures = [Finding(error.name, str(error))]
    return LintReport(tuple(failures))


def _lint_openvino(payload: Path, options: Mapping[str, Any]) -> list[Finding]:
    ir = openvino_ir.read_ir(payload / OPENVINO_IR)
    weights = payload / OPENVINO_WEIGHTS
    found = openvino_ir.lint_ir(ir, options) + _lint_profile(payload, options)
    missing = openvino_ir.lint_bytes(ir, weights)
    return found + (missing or _lint_values(openvino_ir.mapped_matrices(ir, weights)))


def _lint_profile(payload: Path, options: Mapping[str, Any]) -> list[Finding]:
    """An NPU variant is run with the options of its profile, and with no others."""
    if "npu" not in options:
        return []
    try:
        told = read_record(payload / NPU_PROFILE).get("pipeline_options")
    except RecordError as error:
        return [Finding("npu-profile", str(error))]
    if told == options["npu"]:
        return []
    what = f"{NPU_PROFILE} says {told}, the variant declares {options['npu']}"
    return [Finding("npu-profile", what)]


def _lint_onnx_genai(payload: Path, options: Mapping[str, Any]) -> list[Finding]:
    from validators.lint import onnx_graph  # needs onnx, which only these payloads' devices have

    graph = onnx_graph.read_graph(payload)
    found = onnx_graph.lint_graph(graph, options) + onnx_graph.lint_config(payload, options)
    missing = onnx_graph.lint_bytes(graph, payload)
    return found + (missing or _lint_values(onnx_graph.mapped_matrices(graph, payload)))


_LINTS: Mapping[str, Callable[[Path, Mapping[str, Any]], list[Finding]]] = {
    "openvino": _lint_openvino,
    "onnx-genai": _lint_onnx_genai,
}


def _lint_values(matrices: Iterator[Matrix]) -> list[Finding]:
    kinds: dict[int, list[str]] = {}
    for matrix in matrices:
        if is_rounded(matrix):
            kinds.setdefault(matrix.bits, []).append(matrix.name)
    return [
        Finding(
            "rounded-weights",
            f"{len(names)} matrices are stored in {bits} bits but hold no more than "
            f"{'3' if bits == 4 else '4'}: {some(sorted(names))}",
        )
        for bits, names in sorted(kinds.items())
    ]


def _lint_tokenizer(payload: Path, reference: Reference) -> list[Finding]:
    found = []
    if (payload / TOKENIZER).is_file():
        found += lint_vocabulary(payload, Tokenizer.from_file(str(reference.tokenizer)))
    source = reference.chat_template
    if source is None:
        return found
    if chat_template(payload) != source:
        found.append(Finding("chat-template", "the payload's chat template is not the source's"))
    tokenizer_ir = payload / OPENVINO_TOKENIZER  # OpenVINO GenAI takes the template from here
    if (
        isinstance(source, str)
        and tokenizer_ir.is_file()
        and openvino_ir.read_ir(tokenizer_ir).chat_template != source
    ):
        what = f"the chat template in {OPENVINO_TOKENIZER} is not the source's"
        found.append(Finding("chat-template", what))
    return found
