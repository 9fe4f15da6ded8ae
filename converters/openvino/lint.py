"""Lint what nncf made before anything is derived from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.contract import ConvertError
from phiforge.artifact.payload_files import OPENVINO_IR
from validators.contract import ArtifactError
from validators.lint.openvino_ir import lint_ir, read_ir


def lint(payload: Path, options: Mapping[str, Any]) -> None:
    """Check a payload's IR by the rules of its check (`validators.lint.openvino_ir`).

    Raises:
        ConvertError: the first thing that is not as the options say.
    """
    try:
        findings = lint_ir(read_ir(payload / OPENVINO_IR), options)
    except ArtifactError as error:
        raise ConvertError(str(error), where=payload) from None
    if findings:
        raise ConvertError(
            f"{findings[0].name}: {findings[0].what}",
            where=payload / OPENVINO_IR,
            remedy="this is nncf's doing; do not ship the variant",
        )
