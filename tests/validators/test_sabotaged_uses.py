"""What shows only as users run it: the lint finds nothing, or something else.

One line a sabotage. To add one, yield its name, the broken artifact, the row and the use that shows
it, the use's failure, and what the lint finds.
"""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino
import pytest
from openvino import opset13

from phiforge.artifact.payload_files import GENAI_CONFIG
from support.broken import (
    Broken,
    Edit,
    files,
    ignore_graph_mask,
    linted,
    nothing,
    replaced,
)
from support.jobs import check_job
from validators.contract import ArtifactError, Generation
from validators.reference_tree import Reference
from validators.usage import uses_of

FP16, MIXED, NPU = "openvino-fp16", "openvino-int4", "openvino-int4-npu"
DML, CPU = "genai-dml-int4", "genai-cpu-int4"


def in_ir(edit: Callable[[openvino.Model], None]) -> Edit:
    def write(payload: Path) -> None:
        xml = payload / "openvino_model.xml"
        graph = openvino.Core().read_model(xml)
        edit(graph)
        graph.validate_nodes_and_infer_types()
        openvino.save_model(graph, payload / "edited.xml", compress_to_fp16=False)
        del graph  # it reads the weights from the file
        for end in (".xml", ".bin"):
            (payload / "edited").with_suffix(end).replace(xml.with_suffix(end))

    return write


def ignore_mask(graph: openvino.Model) -> None:
    """Every token of a batch is attended to, padding too."""
    mask = graph.input("attention_mask")
    readers = mask.get_target_inputs()
    ones = opset13.maximum(mask.node, opset13.constant(np.int64(1)))
    for reader in readers:
        reader.replace_source_output(ones.output(0))


def ignore_beam_idx(graph: openvino.Model) -> None:
    """Each row keeps its own past."""
    beams = graph.input("beam_idx")
    readers = beams.get_target_inputs()
    rows = opset13.squeeze(opset13.shape_of(beams.node, "i32"), opset13.constant(np.int32(0)))
    zero, one = (opset13.constant(np.int32(number)) for number in (0, 1))
    own = opset13.range(zero, rows, one, "i32")
    for reader in readers:
        reader.replace_source_output(own.output(0))


def sample(payload: Path) -> None:
    replaced(GENAI_CONFIG, '"do_sample": false', '"do_sample": true')(payload)
    replaced(GENAI_CONFIG, '"temperature": 1.0', '"temperature": 100.0')(payload)


def of_use() -> Iterator[tuple[str, Broken, str, str, str, set[str]]]:
    """Yield name, artifact, row, use and its failure, and what the lint finds."""
    mask, beam_idx = in_ir(ignore_mask), in_ir(ignore_beam_idx)
    graph = {"other-graph"}
    yield "an IR's mask", files(FP16, mask), "cpu", "batch", "wrong-batch", graph
    yield "beam_idx", files(MIXED, beam_idx), "cpu", "batch", "wrong-beams", set()
    mask = ignore_graph_mask
    yield "a graph's mask", files(CPU, mask), "cpu", "batch", "wrong-batch", graph
    yield "DirectML's mask", files(DML, mask), "dml-standin", "batch", "wrong-batch", graph
    settings = {"other-configuration"}
    cut = replaced(GENAI_CONFIG, '"max_length": 4096', '"max_length": 12')
    yield "defaults that cut", files(CPU, cut), "cpu", "defaults", "wrong-defaults", settings
    yield "defaults that sample", files(CPU, sample), "cpu", "defaults", "wrong-defaults", settings
    hot = replaced("generation_config.json", "{", '{"do_sample": true, "temperature": 100.0,')
    yield "an IR's defaults", files(FP16, hot), "cpu", "defaults", "wrong-defaults", {"other-files"}
    short, profile = replaced("npu-profile.json", "1024", "512"), {"npu-profile"}
    one = files(NPU, nothing)  # OpenVINO's doing: see NpuRuntime
    yield "one token for an NPU", one, "npu-standin", "shortest", "wrong-shortest", set()
    yield "a short NPU", files(NPU, short), "npu-standin", "longest", "wrong-longest", profile


USES = {name: rest for name, *rest in of_use()}


@pytest.mark.parametrize("case", USES)
def test_what_shows_in_other_uses_is_named(
    built: Callable[[str], Path], reference: Reference, tmp_path: Path, case: str
) -> None:
    broken, row, use, failure, names = USES[case]
    payload = broken.made(built, tmp_path) / "payload"
    assert linted(broken.variant, payload, reference) == names
    assert in_use(broken.variant, row, use, payload, reference) == {failure}


def in_use(variant: str, row: str, name: str, payload: Path, reference: Reference) -> set[str]:
    """The failures of one use."""
    job = check_job(variant, row)
    module = importlib.import_module(f"validators.runtimes.{job.row.runtime}")
    runtime = module.open_runtime(payload, settings=job.row.settings)
    if name not in runtime.uses:
        runtime.uses = (name,)
        runtime.generate(reference.prompts[2].prompt_ids, 5)
    prompts = [prompt for prompt in reference.prompts if len(prompt.prompt_ids) < 64]
    unasked = Generation((), False, "", None, 0.0)
    greedy = {prompt.id: unasked for prompt in prompts}
    if name == "defaults":
        greedy[prompts[2].id] = runtime.generate(prompts[2].prompt_ids, 16)
    [use] = [
        use for use in uses_of(runtime, reference, prompts, greedy, job.limits) if use.name == name
    ]
    try:
        use.compare(use.answer())
    except ArtifactError as error:
        return {error.name}
    except RuntimeError:  # the worker names it so
        return {use.failure}
    return set()
