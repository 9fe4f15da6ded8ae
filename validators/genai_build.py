"""Read what an ONNX Runtime GenAI build says of itself: its configuration and its graph."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from phiforge.artifact.payload_files import GENAI_CONFIG
from validators.contract import Limits


@dataclass(frozen=True)
class GenaiBuild:
    """A build as its files describe it.

    Attributes:
        built_for: the execution providers that its configuration names; ``cpu``: none.
        operators: of its graph, each once.
        context_length: most tokens of a prompt with its answer.
        full_attention: every token attends to all before it.
    """

    built_for: tuple[str, ...]
    operators: tuple[str, ...]
    context_length: int
    full_attention: bool

    @property
    def limits(self) -> Limits:
        return Limits(total_tokens=self.context_length, full_attention=self.full_attention)


def read_build(artifact: Path) -> GenaiBuild:
    """Read a payload folder; the weights are not loaded."""
    built = json.loads((artifact / GENAI_CONFIG).read_text(encoding="utf-8"))["model"]
    decoder = built["decoder"]
    providers = decoder["session_options"].get("provider_options", [])
    graph = onnx.load(str(artifact / decoder["filename"]), load_external_data=False).graph
    return GenaiBuild(
        built_for=tuple(name for entry in providers for name in entry) or ("cpu",),
        operators=tuple(sorted({node.op_type for node in graph.node})),
        context_length=int(built["context_length"]),
        full_attention=attends_to_all(graph),
    )


def attends_to_all(graph: Any) -> bool:
    """Whether a graph's attention has no sliding window (``local_window_size``).

    The model builder leaves the window out of Phi-3's DirectML builds, so that they leave the
    reference on sequences longer than the source's window.
    """
    windows = [
        next((field.i for field in node.attribute if field.name == "local_window_size"), -1)
        for node in graph.node
        if node.op_type.endswith("Attention")
    ]
    return not windows or min(windows) < 0
