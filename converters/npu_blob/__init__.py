"""NPU blobs: an NPU IR compiled ahead of time, with the IR beside it to fall back to.

The pipeline of OpenVINO GenAI compiles and exports (EXPORT_BLOB). What it wrote is shipped only if
its bytes and its import say that it is NPU code; the payload's ``npu-blob.json`` says what it is
tied to.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from converters.contract import BuildRecord, ConvertError, Options
from converters.npu_blob.process import ELSEWHERE, compile_blob
from converters.npu_blob.subject import WEIGHTS, compile_job
from converters.npu_blob.toolchain import lay_out
from phiforge.artifact.manifest import CHECKSUMS, MANIFEST
from phiforge.artifact.npu_blob import BLOB, LABEL
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import files_under, link_or_copy, sha256_file

TOOLCHAIN = ("openvino", "openvino-genai", "openvino-tokenizers")

PROFILE = "npu-profile.json"
_IR = {"xml": "openvino_model.xml", "bin": WEIGHTS}


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
        options: valid against ``config/schemas/options/npu_blob.schema.json``.
        base: payload of a variant with an ``npu`` block.
        tools: ``npu_compiler``: the two libraries, with their digests; or how the job gets to
            them (`phiforge.settings.npu_compiler`).

    Raises:
        ConvertError: no such base, other libraries, or a blob that is not proven to be NPU code.
    """
    if base is None or not (base / PROFILE).is_file():
        raise ConvertError(
            f"a blob is compiled from an IR with {PROFILE}",
            expected="'from:' naming a variant with an npu block",
            found="none" if base is None else "a payload without one",
            remedy="add 'from: openvino-int4-npu' to the variant in config/variants.yaml",
        )
    if "by" in tools["npu_compiler"]:
        return build(base, into, options, made_for="NPU", elsewhere=tools["npu_compiler"])
    # Inside the scratch payload, so that nothing is left anywhere if this process is killed.
    with tempfile.TemporaryDirectory(prefix=".compiler-", dir=into) as folder:
        lay_out(tools["npu_compiler"], Path(folder))
        return build(base, into, options, made_for="NPU", packages=Path(folder))


def build(
    base: Path,
    into: Path,
    options: Options,
    *,
    made_for: str,
    packages: Path | None = None,
    elsewhere: Mapping[str, Any] | None = None,
) -> BuildRecord:
    """Compile ``base`` and write the payload.

    Args:
        made_for: ``NPU``; tests say ``CPU``, and the label then does too.
        packages: folder with the OpenVINO that compiles; None: the installed one.
        elsewhere: how the compiler is reached, if it is not here.

    Raises:
        ConvertError: the compile process failed; it says why.
    """
    for name in files_under(base):
        if name.name not in (MANIFEST, CHECKSUMS, PROFILE) and not _is_licence(name):
            link_or_copy(base / name, into / name)
    ir = {kind: {"file": name, "sha256": sha256_file(base / name)} for kind, name in _IR.items()}
    job = compile_job(options, ir["bin"]["sha256"], made_for)
    profile = {**read_record(base / PROFILE), "pipeline_options": job["pipeline_options"]}
    write_record(into / PROFILE, profile)
    compiled = _compile(job, base, into, packages, elsewhere)
    passed = compiled.pop("passed")
    write_record(into / LABEL, _label(job, ir, compiled, into / BLOB))
    return BuildRecord(
        toolchain={name: version(name) for name in TOOLCHAIN},
        recipe={"tool": "openvino_genai.LLMPipeline", "compiler": compiled["compiler"], **passed},
    )


def _is_licence(name: Path) -> bool:
    """`converters.__main__` adds these, from the source."""
    return name.name.startswith(("LICENSE", "NOTICE"))


def _compile(
    job: Mapping[str, Any],
    base: Path,
    into: Path,
    packages: Path | None,
    elsewhere: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Leave the blob in ``into``, proven; what its compile process recorded."""
    with tempfile.TemporaryDirectory(prefix=".blob-", dir=into) as name:
        folder = Path(name)
        if elsewhere is None:
            compiled = compile_blob(job, base, folder, packages=packages)
        else:
            asked = {**job, "elsewhere": elsewhere}
            compiled = compile_blob(asked, base, folder, packages=None, module=ELSEWHERE)
            _prove(job, folder / BLOB, compiled)
        (folder / BLOB).rename(into / BLOB)
        return compiled


def _prove(job: Mapping[str, Any], blob: Path, compiled: Mapping[str, Any]) -> None:
    """Whoever compiled it elsewhere: it is NPU code, of this release, or it is refused.

    Raises:
        CompileError: ``blob-made-for-cpu``, or another cache mode.
        ConvertError: of another OpenVINO, or not what was recorded of it.
    """
    from converters.npu_blob.compile import prove

    header = prove({**job, "made_for": "NPU"}, blob, ask=False)
    expected = ".".join(version("openvino").split(".")[:3])
    if header.openvino != expected:
        raise ConvertError(
            "the blob was compiled by another OpenVINO",
            expected=expected,
            found=header.openvino,
            remedy="compile it in the environment of this checkout's lock",
        )
    facts = {**asdict(header), "made_for": job["made_for"]}
    del facts["encrypted"]
    for name, fact in facts.items():
        if compiled.get(name) != fact:
            raise ConvertError(
                f"the record that came with the blob is not about it: '{name}' differs",
                expected=fact,
                found=compiled.get(name),
                remedy="compile it again",
            )
    missing = {"openvino_build", "passed", "compiler"} - compiled.keys()
    if missing:
        raise ConvertError(f"the record that came with the blob lacks {sorted(missing)[0]}")


def _label(
    job: Mapping[str, Any], ir: Mapping[str, Any], compiled: Mapping[str, Any], blob: Path
) -> dict[str, Any]:
    """What the blob is tied to, for whoever loads it."""
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
