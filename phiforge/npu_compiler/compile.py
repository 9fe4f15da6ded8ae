"""Compile an IR to a blob for an Intel NPU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.npu_compiler import native, wine
from phiforge.npu_compiler.outcome import CompilerRecord

TIME_LIMIT_S = 2 * 3600.0  # Phi-3-mini's shape takes four minutes on one core


def compile_ir(
    ir: Path,
    blob: Path,
    properties: Mapping[str, str],
    *,
    compiler: Mapping[str, Any] | None,
    scratch: Path,
    time_limit_s: float = TIME_LIMIT_S,
) -> CompilerRecord:
    """Compile the IR in the folder ``ir`` and write ``blob``.

    Args:
        properties: of `phiforge.npu_compiler.properties.compile_properties`.
        compiler: the value of `phiforge.settings.settings.Settings.tools`; None: the installed
            OpenVINO, which compiles for the CPU only.
        scratch: an empty folder on the file system of ``blob``.

    Raises:
        IrRefused: the compiler cannot compile this IR.
        CompilerError: no such compiler, or it did not end as it should; it says nothing of the IR.
    """
    if compiler is not None and wine.DIGEST in compiler:
        return wine.compile_ir(ir, blob, properties, compiler[wine.DIGEST], scratch, time_limit_s)
    return native.compile_ir(ir, blob, properties, compiler, scratch, time_limit_s)
