"""OpenVINO IRs: exported once as FP16, and compressed from that export with nncf.

``openvino-fp16`` is traced from the source by optimum (`converters.openvino.export`); every other
variant takes its graph from that payload and its matrices from the source
(`converters.openvino.compress`), so nothing is exported twice and nothing is rounded twice.
"""

from pathlib import Path

from converters.contract import BuildRecord, ConvertError, Options


def convert(source: Path, into: Path, *, options: Options, base: Path | None = None) -> BuildRecord:
    """Write an OpenVINO payload into ``into``.

    Args:
        source: verified source tree: safetensors, configuration, tokenizer.
        into: empty scratch folder that becomes the payload.
        options: as `converters.openvino.options` describes them.
        base: payload of the FP16 variant; needed for every other ``weight_format``.

    Raises:
        ConvertError: the model cannot be represented as asked, or an official tool returned
            something else than what was asked for.
    """
    if options["weight_format"] == "fp16":
        from converters.openvino.export import export

        return export(source, into)
    if base is None:
        raise ConvertError(
            f"weight_format '{options['weight_format']}' is derived from an FP16 payload",
            expected="a variant with 'from: openvino-fp16'",
            found="no 'from'",
            remedy="add 'from: openvino-fp16' to the variant in config/variants.yaml",
        )
    from converters.openvino.compress import compress

    return compress(source, into, options, base)
