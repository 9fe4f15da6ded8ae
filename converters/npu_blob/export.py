"""Compile an IR to a blob, in a process of its own (`converters.npu_blob.compiler` starts it).

    python -m converters.npu_blob.export JOB.json

``JOB.json``: ``ir`` (a folder with openvino_model.xml, its .bin and the tokenizer), ``into`` (an
existing folder), ``platform``, ``cache_mode``, ``pipeline_options``, ``weights_bank`` and
``made_for``, ``NPU`` or ``CPU``. Into ``into`` it writes openvino_model.blob and, last,
``COMPILED.json``.

``made_for: CPU`` is the same export with the CPU in the NPU's place. It exists for tests: it comes
from no configuration, and such a blob is refused wherever a release is made.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openvino
import openvino_genai

from converters.contract import ConvertError
from converters.npu_blob.compiler import COMPILED, LIBRARIES
from phiforge.artifact.npu_blob import (
    BLOB,
    MADE_FOR_CPU,
    ON_CPU,
    BlobHeader,
    not_npu_code,
    read_header,
)
from phiforge.artifact.payload_files import OPENVINO_WEIGHTS
from phiforge.artifact.record import write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import run_command

TOOLCHAIN = ("openvino", "openvino-genai")

_LONGEST_MESSAGE = 400


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    into = Path(job["into"])
    blob = into / BLOB
    export(job, blob)
    header = verify_blob(job, blob)
    write_record(
        into / COMPILED,
        {
            "openvino": header.openvino,
            "openvino_build": openvino.get_version(),
            "serialization": header.serialization,
            "weightless": header.weightless,
            "made_for": job["made_for"],
            "passed": given_options(job),
            "compiler": compiler() if job["made_for"] == "NPU" else None,
        },
    )


def given_options(job: Mapping[str, Any]) -> dict[str, Any]:
    """Return every option of the export but the blob's path, as the pipeline is given it."""
    return {
        **job["pipeline_options"],
        "EXPORT_BLOB": "YES",
        "CACHE_MODE": job["cache_mode"],
        "NPU_PLATFORM": job["platform"],
        "NPU_COMPILER_TYPE": "PLUGIN",
        "NPUW_DEVICES": job["made_for"],
        # Without a name of ours each blob gets a random one, and no two builds are equal.
        "NPUW_WEIGHTS_BANK": job["weights_bank"],
        **(ON_CPU if job["made_for"] == "CPU" else {}),
    }


def export(job: Mapping[str, Any], blob: Path) -> None:
    """Let the pipeline compile the job's IR and write its blob.

    Raises:
        ConvertError: it cannot.
    """
    try:
        openvino_genai.LLMPipeline(job["ir"], "NPU", BLOB_PATH=str(blob), **given_options(job))
    except Exception as error:  # whatever the compiler raises
        raise ConvertError(
            f"the NPU compiler did not compile the IR for platform {job['platform']} "
            f"({_short(error)})",
            remedy="see docs/npu-blob.md, 'The compiler'",
        ) from None
    if not blob.is_file():
        raise ConvertError("the pipeline wrote no blob", where=BLOB)


def verify_blob(job: Mapping[str, Any], blob: Path) -> BlobHeader:
    """Hold what was written against what was asked for.

    Raises:
        ConvertError: another cache mode or release, or code of another processor.
    """
    header = read_header(blob)
    if header.weightless != (job["cache_mode"] == "OPTIMIZE_SIZE") or header.encrypted:
        raise ConvertError(
            "the blob is not in the cache mode that was asked for",
            expected=job["cache_mode"],
            found=f"weightless {header.weightless}, encrypted {header.encrypted}",
        )
    if job["made_for"] == "NPU":
        objection = not_npu_code(blob) or imported_for_cpu(job, blob, header)
        if objection is not None:
            raise ConvertError(f"{MADE_FOR_CPU}: {objection}")
    return header


def imported_for_cpu(job: Mapping[str, Any], blob: Path, header: BlobHeader) -> str | None:
    """Ask the imported blob which device it runs on; None: the NPU, or there is none to ask.

    Without an NPU only a blob of CPU code can be imported, so a refusal is no bad sign there; the
    check on the device asks again.
    """
    core = openvino.Core()
    weights = {"WEIGHTS_PATH": str(Path(job["ir"]) / OPENVINO_WEIGHTS)}
    try:
        imported = core.import_model(blob.read_bytes(), "NPU", weights if header.weightless else {})
    except Exception as error:  # whatever the plugin raises
        if "NPU" in core.available_devices:
            return f"the NPU of this machine does not import it ({_short(error)})"
        print(f"not imported, this machine has no NPU: {_short(error)}", flush=True)
        return None
    devices = str(imported.get_property("NPUW_DEVICES"))
    return None if devices == "NPU" else f"imported, its NPUW_DEVICES is {devices}"


def compiler() -> dict[str, Any]:
    """Return version and digests of the compiler that this process used."""
    folder = Path(openvino.__file__).parent / "libs"
    core = openvino.Core()
    core.set_property("NPU", {"NPU_COMPILER_TYPE": "PLUGIN"})
    return {
        "type": "PLUGIN",
        "version": str(core.get_property("NPU", "NPU_COMPILER_VERSION")),
        "libraries": {name: sha256_file(folder / name) for name in sorted(LIBRARIES.values())},
    }


def _short(error: Exception) -> str:
    """Cut a message to its end: OpenVINO's begin with its source files."""
    return " ".join(str(error).split())[-_LONGEST_MESSAGE:]


if __name__ == "__main__":
    run_command(main)
