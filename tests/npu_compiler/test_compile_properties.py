"""The properties that we compile with are those of OpenVINO GenAI's own pipeline."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import openvino_genai
import pytest

from phiforge.npu_compiler.compile import compile_ir
from phiforge.npu_compiler.properties import ON_CPU, compile_properties, weights_bank
from support.jobs import SETTINGS

# OpenVINO masks the graphs in a blob with this key (src/plugins/intel_cpu/src/utils/codec_xor.cpp).
_KEY = np.array([0x30, 0x60, 0x70, 0x02, 0x04, 0x08, 0x3F, 0x6F, 0x72, 0x74, 0x78, 0x7F], np.uint8)
_HEAD, _END = b"<?xml version", b"</net>"

OPTIONS = {
    name: {key: variant.options[key] for key in variant.options if key.isupper()}
    if variant.format == "npu-blob"
    else variant.options["npu"]
    for name, variant in SETTINGS.variants.items()
    if variant.format == "npu-blob" or "npu" in variant.options
}


def unmasked(masked: bytes) -> bytes:
    data = np.frombuffer(masked, np.uint8)
    return (data ^ np.resize(_KEY, len(data))).tobytes()


def graphs(blob: Path) -> Iterator[str]:
    """The graphs that a blob of CPU code holds, without the numbers in node names.

    Those count up in the process, and the pipeline reads its tokenizers first.
    """
    data = blob.read_bytes()
    for start in re.finditer(re.escape(unmasked(_HEAD)), data):
        text = unmasked(data[start.start() :])
        yield re.sub(r"_\d+", "_N", text[: text.index(_END)].decode())


@pytest.mark.parametrize("variant", OPTIONS)
def test_core_compiles_what_the_pipeline_compiles(
    variant: str, built: Callable[[str], Path], tmp_path: Path
) -> None:
    options = OPTIONS[variant]
    base = SETTINGS.variants[variant].base if variant.startswith("npu-blob") else variant
    assert base is not None
    ir, theirs, ours = built(base), tmp_path / "theirs.blob", tmp_path / "ours.blob"
    choices = {"CACHE_MODE": "OPTIMIZE_SPEED", "NPU_PLATFORM": "4000", "NPUW_WEIGHTS_BANK": "w"}
    openvino_genai.LLMPipeline(
        str(ir), "NPU", BLOB_PATH=str(theirs), EXPORT_BLOB="YES", NPUW_DEVICES="CPU",
        NPU_COMPILER_TYPE="PLUGIN", **choices, **options, **ON_CPU,
    )  # fmt: skip
    properties = compile_properties(
        options, platform="4000", cache_mode="OPTIMIZE_SPEED", weights_bank="w", devices="CPU"
    )
    (tmp_path / "scratch").mkdir()
    compile_ir(ir, ours, properties, compiler=None, scratch=tmp_path / "scratch")
    expected, found = list(graphs(theirs)), list(graphs(ours))
    assert len(expected) == 3
    assert found == expected
    assert choices.items() <= properties.items()


def test_a_bank_is_named_after_its_weights() -> None:
    assert weights_bank("ab" * 32) == weights_bank("ab" * 32) != weights_bank("cd" * 32)
