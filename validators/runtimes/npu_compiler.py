"""Let Intel's NPU compiler take an artifact; nothing is executed.

The module of compiler rows: instead of ``open_runtime`` it has `compile_artifact`. Settings:
``platform``, the NPU platform that is compiled for. An IR is compiled with the options of its own
``npu-profile.json``. The IR beside a blob is compiled again, and must give the blob: its bytes are
then this compiler's, whoever made it.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.artifact.npu_blob import (
    BLOB,
    LABEL,
    NpuCode,
    objections,
    read_code,
    read_label,
)
from phiforge.artifact.payload_files import NPU_PROFILE, OPENVINO_IR, OPENVINO_WEIGHTS
from phiforge.artifact.record import read_record
from phiforge.artifact.tree import sha256_file
from phiforge.npu_compiler.compile import compile_ir
from phiforge.npu_compiler.outcome import CompilerError, IrRefused
from phiforge.npu_compiler.properties import compile_properties, weights_bank
from phiforge.receipts.receipt import CompileEvidence
from validators.contract import ArtifactError, CheckError, only_known
from validators.lint.npu_blob import refuse_other_code, refuse_other_weights, refuse_unfit

IR_REFUSED = "compiler-refuses"
WRONG_OUTCOME = "compiler-outcome"
OTHER_BYTES = "blob-of-another-compiler"


def compile_artifact(
    artifact: Path,
    *,
    settings: Mapping[str, Any],
    compiler: Mapping[str, Any],
    time_limit_s: float,
) -> CompileEvidence:
    """Compile the IR of a payload folder for ``settings['platform']``.

    Args:
        compiler: as `phiforge.npu_compiler.compile.compile_ir` takes it.

    Raises:
        ArtifactError: the compiler refuses the IR, or a blob is not what it makes of it.
        CheckError: there is no verdict: the compiler is missing, was killed or took too long.
        RecordError: there is no readable profile or label.
    """
    only_known(settings, ["platform"], "npu_compiler")
    platform = str(settings["platform"])
    label = read_label(artifact) if (artifact / LABEL).exists() else None
    if label is not None:
        refuse_unfit(artifact, label, platform)
        refuse_other_code(artifact, label)
    digests = {name: sha256_file(artifact / name) for name in (OPENVINO_IR, OPENVINO_WEIGHTS)}
    properties = compile_properties(
        read_record(artifact / NPU_PROFILE)["pipeline_options"],
        platform=platform,
        cache_mode="OPTIMIZE_SPEED" if label is None else label["cache_mode"],
        weights_bank=weights_bank(digests[OPENVINO_WEIGHTS]),
    )
    with tempfile.TemporaryDirectory(prefix="phiforge-compile-") as name:
        blob, scratch = Path(name) / BLOB, Path(name) / "scratch"
        scratch.mkdir()
        try:
            made_by = compile_ir(
                artifact,
                blob,
                properties,
                compiler=compiler,
                scratch=scratch,
                time_limit_s=time_limit_s,
            )
        except IrRefused as error:
            raise ArtifactError(IR_REFUSED, str(error)) from None
        except CompilerError as error:
            raise CheckError(str(error)) from None
        code = read_code(blob)
        _refuse_outcome(blob, code, artifact, platform, properties["CACHE_MODE"])
        sha256 = sha256_file(blob)
        if label is not None and sha256 != sha256_file(artifact / BLOB):
            raise ArtifactError(
                OTHER_BYTES,
                f"{BLOB} is not what this compiler makes of the IR beside it "
                f"(version {made_by.version}; the label names {label['compiler']['version']})",
            )
        return CompileEvidence(
            compiler=f"Intel's NPU compiler {made_by.version} of OpenVINO {made_by.openvino}, run "
            f"by {made_by.host}",
            openvino=made_by.openvino,
            platform=platform,
            interface=", ".join(code.interfaces),
            submodels=code.submodels,
            options=properties,
            ir=digests,
            blob_sha256=sha256,
            blob_bytes=blob.stat().st_size,
        )


def _refuse_outcome(
    blob: Path, code: NpuCode, artifact: Path, platform: str, cache_mode: str
) -> None:
    """Hold what the compiler wrote against what it was asked for."""
    weightless = cache_mode == "OPTIMIZE_SIZE"
    against = list(objections(blob, code, platform=platform, weightless=weightless))
    if against:
        raise ArtifactError(WRONG_OUTCOME, "; ".join(against))
    if not weightless:
        refuse_other_weights(blob, artifact)
