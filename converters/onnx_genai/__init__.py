"""ONNX Runtime GenAI builds for DirectML, CUDA, WebGPU and the CPU, by the official model builder.

``genai-dml-fp16`` is the builder's own. INT4 builds are the builder's graph with every matrix
quantized on its way to the disk (`converters.onnx_genai.matmul_nbits`): the graph of a float16
payload where the variant has a ``from:``, else the one that the builder has just made of the
source. Either way the bytes are those of the builder's own INT4, but for what the notes say.
"""

from pathlib import Path

from converters.contract import BuildRecord, ConvertError, Options


def convert(source: Path, into: Path, *, options: Options, base: Path | None = None) -> BuildRecord:
    """Write an ONNX Runtime GenAI payload into ``into``.

    Args:
        source: verified source tree: safetensors, configuration, tokenizer.
        into: empty scratch folder that becomes the payload.
        options: as `converters.onnx_genai.options` describes them.
        base: payload of the float16 build for the same execution provider; INT4 only.

    Raises:
        ConvertError: the model cannot be represented as asked, or the builder returned something
            else than what was asked for.
    """
    if base is not None and options["precision"] != "int4":
        raise ConvertError(
            f"precision '{options['precision']}' is built from the source",
            expected="no 'from'",
            found="a variant to derive it from",
            remedy="remove 'from' from the variant in config/variants.yaml",
        )
    from converters.onnx_genai.build import build

    return build(source, into, options, base)
