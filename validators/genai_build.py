"""Read what an ONNX Runtime GenAI build says of itself: its configuration and its graph."""

import json
from dataclasses import dataclass
from pathlib import Path

import onnx

from phiforge.artifact.payload_files import GENAI_CONFIG


@dataclass(frozen=True)
class GenaiBuild:
    """A build as its files describe it.

    Attributes:
        built_for: the execution providers that its configuration names; ``cpu``: none.
        operators: of its graph, each once.
        context_length: most tokens of a prompt with its answer.
        max_length: the same by its search defaults, where they say.
    """

    built_for: tuple[str, ...]
    operators: tuple[str, ...]
    context_length: int
    max_length: int


def read_build(artifact: Path) -> GenaiBuild:
    """Read a payload folder; the weights are not loaded."""
    stated = json.loads((artifact / GENAI_CONFIG).read_text(encoding="utf-8"))
    built = stated["model"]
    decoder = built["decoder"]
    providers = decoder["session_options"].get("provider_options", [])
    graph = onnx.load(str(artifact / decoder["filename"]), load_external_data=False).graph
    return GenaiBuild(
        built_for=tuple(name for entry in providers for name in entry) or ("cpu",),
        operators=tuple(sorted({node.op_type for node in graph.node})),
        context_length=int(built["context_length"]),
        max_length=int(stated.get("search", {}).get("max_length", built["context_length"])),
    )
