"""Two IRs side by side: their graphs, constant by constant, and their distance to transformers."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino as ov

_COUNTED_NAME = re.compile(r"^[A-Za-z0-9]+_\d+(\.\d+)?$")
_EXACT = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
}


@dataclass(frozen=True)
class Node:
    """One operation: what it is, what it reads, and a constant's content."""

    kind: str
    name: str
    attributes: dict[str, str]
    reads: tuple[int, ...]
    constant: tuple[str, tuple[int, ...], bytes] | None


@cache
def _core() -> ov.Core:
    # One for the process: a tokenizer's operations live in the library that it loads.
    import openvino_tokenizers  # noqa: F401

    return ov.Core()


def describe(ir: Path) -> list[Node]:
    """Every operation of an IR in topological order.

    Names that openvino makes from a process-wide counter become ``#``.
    """
    model = _core().read_model(ir)
    operations = model.get_ordered_ops()
    places = {one.get_friendly_name(): place for place, one in enumerate(operations)}
    return [
        Node(
            kind=one.get_type_name(),
            name=_COUNTED_NAME.sub("#", one.get_friendly_name()),
            attributes={key: str(value) for key, value in one.get_attributes().items()},
            reads=tuple(
                places[value.get_node().get_friendly_name()] for value in one.input_values()
            ),
            constant=_content(one) if one.get_type_name() == "Constant" else None,
        )
        for one in operations
    ]


def _content(constant: ov.Node) -> tuple[str, tuple[int, ...], bytes]:
    kind = constant.get_element_type().get_type_name()
    return kind, tuple(constant.shape), constant.data.tobytes()


def differences(ours: Path, theirs: Path) -> list[tuple[Node | None, Node | None]]:
    """Operations that differ, pairwise; empty where both are the same graph of the same bytes."""
    left, right = describe(ours), describe(theirs)
    pairs = [(one, other) for one, other in zip(left, right, strict=False) if one != other]
    shorter = min(len(left), len(right))
    return (
        pairs + [(one, None) for one in left[shorter:]] + [(None, one) for one in right[shorter:]]
    )


def reference_log_probabilities(source: Path, token_ids: npt.NDArray[np.int64]) -> Any:
    """transformers in float32: log-probabilities of shape (tokens, vocabulary), in float64."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, local_files_only=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(token_ids[None])).logits[0]
    return _log_softmax(logits.numpy())


def log_probabilities(folder: Path, token_ids: npt.NDArray[np.int64]) -> Any:
    """The IR on the CPU in float32: log-probabilities of shape (tokens, vocabulary)."""
    compiled = _core().compile_model(folder / "openvino_model.xml", "CPU", _EXACT)
    count = len(token_ids)
    results = compiled.create_infer_request().infer(
        {
            "input_ids": token_ids[None],
            "attention_mask": np.ones((1, count), np.int64),
            "position_ids": np.arange(count)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
    )
    return _log_softmax(results["logits"][0])


def mean_divergence(reference: Any, candidate: Any) -> float:
    """Mean over positions of KL(reference || candidate), in nats."""
    return float((np.exp(reference) * (reference - candidate)).sum(-1).mean())


def _log_softmax(logits: Any) -> Any:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
