"""NPU blobs: an NPU IR compiled ahead of time, shipped with the IR to fall back to.

Intel's compiler makes the blob (`phiforge.npu_compiler`). It is shipped only if its bytes say that
they are code for the NPU platform that was asked for; the payload's ``npu-blob.json`` says what the
blob is tied to.
"""

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from converters.contract import BuildRecord, ConvertError, Options
from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.npu_blob import (
    BLOB,
    LABEL,
    BlobHeader,
    NpuCode,
    objections,
    read_code,
    read_header,
)
from phiforge.artifact.payload_files import NPU_PROFILE, OPENVINO_IR, OPENVINO_WEIGHTS
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import files_under, link_or_copy, sha256_file
from phiforge.npu_compiler.compile import compile_ir
from phiforge.npu_compiler.outcome import CompilerRecord
from phiforge.npu_compiler.properties import compile_properties, weights_bank

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers")

PIPELINE_OPTIONS = ("MAX_PROMPT_LEN", "MIN_RESPONSE_LEN", "PREFILL_HINT", "GENERATE_HINT")
_IR = {"xml": OPENVINO_IR, "bin": OPENVINO_WEIGHTS}


def convert(
    source: Path,
    into: Path,
    *,
    options: Options,
    base: Path | None = None,
    tools: Mapping[str, Any],
) -> BuildRecord:
    """Write a payload with a blob for ``options['platform']`` into ``into``.

    Args:
        source: not read; the weights come from ``base``.
        options: as `converters.npu_blob.options` describes them.
        base: payload of a variant with an ``npu`` block.
        tools: ``npu_compiler``: which compiler (`phiforge.npu_compiler.compile`).

    Raises:
        ConvertError: no such base, or a blob that is not code for this platform.
        IrRefused, CompilerError: the compiler made none.
    """
    if base is None or not (base / NPU_PROFILE).is_file():
        raise ConvertError(
            f"a blob is compiled from an IR with {NPU_PROFILE}",
            expected="'from:' naming a variant with an npu block",
            found="none" if base is None else "a payload without one",
            remedy="add 'from: openvino-int4-npu' to the variant in config/variants.yaml",
        )
    return build(base, into, options, made_for="NPU", compiler=tools["npu_compiler"])


def build(
    base: Path,
    into: Path,
    options: Options,
    *,
    made_for: str,
    compiler: Mapping[str, Any] | None = None,
) -> BuildRecord:
    """Compile the IR of ``base`` and write the payload.

    Args:
        made_for: ``NPU``; tests say ``CPU``, and the label then does too.
        compiler: as `phiforge.npu_compiler.compile` takes it.

    Raises:
        ConvertError, IrRefused, CompilerError: as `convert`.
    """
    for name in files_under(base):
        if name.name not in (MANIFEST, CHECKSUMS, NPU_PROFILE) and not _is_licence(name):
            link_or_copy(base / name, into / name)
    ir = {kind: {"file": name, "sha256": sha256_file(base / name)} for kind, name in _IR.items()}
    pipeline_options = {name: options[name] for name in PIPELINE_OPTIONS}
    profile = {**read_record(base / NPU_PROFILE), "pipeline_options": pipeline_options}
    write_record(into / NPU_PROFILE, profile)
    properties = compile_properties(
        pipeline_options,
        platform=options["platform"],
        cache_mode=options["cache_mode"],
        weights_bank=weights_bank(ir["bin"]["sha256"]),
        devices=made_for,
    )
    # Inside the scratch payload, so that nothing is left anywhere if this process is killed.
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=into) as folder:
        made_by = compile_ir(base, into / BLOB, properties, compiler=compiler, scratch=Path(folder))
    header, code = read_header(into / BLOB), read_code(into / BLOB)
    _refuse_unfit(into / BLOB, code, options, made_for)
    write_record(into / LABEL, _label(options, made_for, ir, made_by, into / BLOB, header, code))
    return BuildRecord(
        toolchain={name: version(name) for name in TOOLCHAIN},
        recipe={
            "tool": "openvino compile_model",
            "compiler": made_by.label,
            "properties": properties,
        },
    )


def _is_licence(name: Path) -> bool:
    """`converters.convert` adds these, from the source."""
    return name.name.startswith(("LICENSE", "NOTICE"))


def _refuse_unfit(blob: Path, code: NpuCode, options: Options, made_for: str) -> None:
    """Hold what was written against what was asked for; the compiler's word does not count."""
    weightless = options["cache_mode"] == "OPTIMIZE_SIZE"
    platform = options["platform"] if made_for == "NPU" else None
    against = list(objections(blob, code, platform=platform, weightless=weightless))
    if against:
        raise ConvertError(
            f"the compiler wrote another blob than it was asked for: {'; '.join(against)}",
            remedy="report it: the official compiler does not do what it says",
        )


def _label(
    options: Options,
    made_for: str,
    ir: Mapping[str, Any],
    made_by: CompilerRecord,
    blob: Path,
    header: BlobHeader,
    code: NpuCode,
) -> dict[str, Any]:
    """Say what the blob is tied to, for whoever loads it."""
    platform = options["platform"]
    return {
        "schema": "phiforge/npu-blob/2",
        "made_for": made_for,
        "platform": platform,
        "interface": ", ".join(code.interfaces),
        "submodels": code.submodels,
        "openvino": header.openvino,
        "serialization": header.serialization,
        "weightless": header.weightless,
        "compiler": made_by.label,
        "cache_mode": options["cache_mode"],
        "pipeline_options": {name: options[name] for name in PIPELINE_OPTIONS},
        "blob": {"file": blob.name, "size": blob.stat().st_size, "sha256": sha256_file(blob)},
        "ir": ir,
        "requires": {
            "openvino": f"exactly {header.openvino}: another major, minor or patch refuses it",
            "openvino-genai": f"of the same release, {version('openvino-genai')}",
            "device": f"an Intel NPU of platform {platform}, and a driver that knows the interface",
        },
    }
