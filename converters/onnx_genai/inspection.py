"""What a build must look like, whatever the tool that made it said."""

from pathlib import Path

import onnx_ir as ir

from converters.contract import ConvertError, Options
from converters.onnx_genai.model_builder import PRODUCER_VERSION
from phiforge.artifact.payload_files import GENAI_CONFIG, ONNX_GRAPH
from phiforge.artifact.record import read_record
from validators.contract import ArtifactError
from validators.lint import onnx_graph

_REMEDY = "this is a defect of the converter or of the model builder; report it"


def check_payload(payload: Path, options: Options) -> None:
    """Hold a build against what was asked for, by the rules of its check (`validators.lint`).

    Raises:
        ConvertError: naming the first thing that is not as it should be.
    """
    try:
        graph = onnx_graph.read_graph(payload)
    except ArtifactError as error:
        raise ConvertError(str(error), where=payload) from None
    if graph.producer_version != PRODUCER_VERSION:
        raise ConvertError(
            "producer_version of the build is not what was asked for",
            where=payload / ONNX_GRAPH,
            expected=PRODUCER_VERSION,
            found=graph.producer_version,
            remedy=_REMEDY,
        )
    findings = [
        *onnx_graph.lint_graph(graph, options),
        *onnx_graph.lint_config(payload, options),
        *onnx_graph.lint_bytes(graph, payload),
    ]
    if findings:
        raise ConvertError(f"{findings[0].name}: {findings[0].what}", where=payload, remedy=_REMEDY)


def check_base(base: Path, provider: str) -> None:
    """The payload that an INT4 build is derived from must be the float build for ``provider``.

    Raises:
        ConvertError: it is another build.
    """
    found = _provider(base)
    graph = ir.load(base / ONNX_GRAPH)
    if found != provider or any(n.op_type == "MatMulNBits" for n in graph.graph.all_nodes()):
        raise ConvertError(
            "the variant is derived from a build of another kind",
            where=base,
            expected=f"a float build for {provider}",
            found=f"a build for {found}",
            remedy="correct 'from' in config/variants.yaml",
        )


def _provider(payload: Path) -> str:
    decoder = read_record(payload / GENAI_CONFIG)["model"]["decoder"]
    providers = [name for one in decoder["session_options"]["provider_options"] for name in one]
    return ", ".join(providers) or "cpu"
