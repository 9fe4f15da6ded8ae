"""NPU blobs: an NPU IR compiled ahead of time, shipped with the IR to fall back to.

The pipeline of OpenVINO GenAI compiles and exports the blob (EXPORT_BLOB). The blob is shipped only
if its bytes and its import say that it is NPU code; the payload's ``npu-blob.json`` says what it is
tied to.
"""

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from converters.contract import BuildRecord, ConvertError, Options
from converters.npu_blob.compiler import compile_blob, with_compiler
from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.npu_blob import BLOB, LABEL
from phiforge.artifact.payload_files import NPU_PROFILE, OPENVINO_IR, OPENVINO_WEIGHTS
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import files_under, link_or_copy, sha256_file

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
        tools: ``npu_compiler``: the compiler's two libraries, each with ``path`` and ``sha256``.

    Raises:
        ConvertError: no such base, other libraries, or a blob that is not proven to be NPU code.
    """
    if base is None or not (base / NPU_PROFILE).is_file():
        raise ConvertError(
            f"a blob is compiled from an IR with {NPU_PROFILE}",
            expected="'from:' naming a variant with an npu block",
            found="none" if base is None else "a payload without one",
            remedy="add 'from: openvino-int4-npu' to the variant in config/variants.yaml",
        )
    # Inside the scratch payload, so that nothing is left anywhere if this process is killed.
    with tempfile.TemporaryDirectory(prefix=".compiler-", dir=into) as folder:
        with_compiler(tools["npu_compiler"], Path(folder))
        return build(base, into, options, made_for="NPU", packages=Path(folder))


def build(
    base: Path, into: Path, options: Options, *, made_for: str, packages: Path | None = None
) -> BuildRecord:
    """Compile the IR of ``base`` and write the payload.

    Args:
        made_for: ``NPU``; tests say ``CPU``, and the label then does too.
        packages: folder with the OpenVINO that compiles; None: the installed one.

    Raises:
        ConvertError: the compile process failed; it says why.
    """
    for name in files_under(base):
        if name.name not in (MANIFEST, CHECKSUMS, NPU_PROFILE) and not _is_licence(name):
            link_or_copy(base / name, into / name)
    ir = {kind: {"file": name, "sha256": sha256_file(base / name)} for kind, name in _IR.items()}
    job = {
        "platform": options["platform"],
        "cache_mode": options["cache_mode"],
        "pipeline_options": {name: options[name] for name in PIPELINE_OPTIONS},
        # NPUW shares weights of equal names within a process, so the name is the weights' own.
        "weights_bank": f"phiforge-{ir['bin']['sha256'][:32]}",
        "made_for": made_for,
    }
    profile = {**read_record(base / NPU_PROFILE), "pipeline_options": job["pipeline_options"]}
    write_record(into / NPU_PROFILE, profile)
    with tempfile.TemporaryDirectory(prefix=".blob-", dir=into) as folder:
        compiled = compile_blob(job, base, Path(folder), packages=packages)
        (Path(folder) / BLOB).rename(into / BLOB)
    passed = compiled.pop("passed")
    write_record(into / LABEL, _label(job, ir, compiled, into / BLOB))
    return BuildRecord(
        toolchain={name: version(name) for name in TOOLCHAIN},
        recipe={"tool": "openvino_genai.LLMPipeline", "compiler": compiled["compiler"], **passed},
    )


def _is_licence(name: Path) -> bool:
    """`converters.__main__` adds these, from the source."""
    return name.name.startswith(("LICENSE", "NOTICE"))


def _label(
    job: Mapping[str, Any], ir: Mapping[str, Any], compiled: Mapping[str, Any], blob: Path
) -> dict[str, Any]:
    """Say what the blob is tied to, for whoever loads it."""
    return {
        "schema": "phiforge/npu-blob/1",
        **compiled,
        "platform": job["platform"],
        "cache_mode": job["cache_mode"],
        "pipeline_options": job["pipeline_options"],
        "blob": {"file": blob.name, "size": blob.stat().st_size, "sha256": sha256_file(blob)},
        "ir": ir,
        "requires": {
            "openvino": f"exactly {compiled['openvino']}: another major, minor or patch refuses it",
            "openvino-genai": f"of the same release, {version('openvino-genai')}",
            "device": f"an Intel NPU of platform {job['platform']} and its driver",
        },
    }
