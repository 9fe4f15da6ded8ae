"""Models compiled by Intel's NPU Acceleration Library, shipped as safetensors.

The library does not fit into the main environment, aborts when a second dtype is compiled in one
process, and saves a pickle. So `converters.npu_library.compilation` compiles one dtype in a process
of ``.venv-npu-library`` and writes the resulting modules' tensors; the library's own save is never
called. What is written: `converters.npu_library.layout`.
"""

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from converters.contract import BuildRecord, ConvertError, Options
from converters.source_files import copy_source_files
from phiforge.artifact.record import read_record
from phiforge.checkout import ROOT
from phiforge.environment import interpreter
from phiforge.offline import OFFLINE

if TYPE_CHECKING:
    # It runs in the other environment; `phiforge.settings.modules` follows what is named here.
    from converters.npu_library import compilation  # noqa: F401

ENVIRONMENT = "npu-library"
RESULT = "RESULT.json"

NOTES = (
    "the library's own cache, a pickle of the whole module, is replaced by safetensors "
    "(export=False): the same tensors, put back into the same modules by the loading code",
    "parameters outside the library's modules (embeddings, norms) keep the source's precision on "
    "the disk and are computed in float32, as the guide's call does with the transformers of its "
    "time; transformers 5 would compute in the source's precision",
)


def convert(source: Path, into: Path, *, options: Options, base: Path | None = None) -> BuildRecord:
    """Write a payload of `NPUModelForCausalLM` into ``into``.

    Args:
        source: verified source tree: safetensors, configuration, tokenizer.
        into: empty scratch folder that becomes the payload.
        options: as `converters.npu_library.options` describes them.
        base: must be None; the library quantizes the source itself.

    Raises:
        ConvertError: there is a ``base``, or the library's process failed.
        EnvironmentMissing: ``make npu-library`` has not been run.
    """
    if base is not None:
        raise ConvertError(
            "the library quantizes the source itself",
            expected="no 'from'",
            found="a variant to derive it from",
            remedy="remove 'from' from the variant in config/variants.yaml",
        )
    python = interpreter(ENVIRONMENT)
    copy_source_files(source, into)
    # The library and neural-compressor write caches into the working directory.
    with tempfile.TemporaryDirectory(prefix="phiforge-convert-") as name:
        scratch = Path(name)
        job = {"source": str(source.resolve()), "into": str(into.resolve()), "options": options}
        (scratch / "JOB.json").write_text(json.dumps(job), encoding="utf-8")
        ended = subprocess.run(
            [str(python), "-m", "converters.npu_library.compilation", "JOB.json"],
            cwd=scratch,
            env={**os.environ, **OFFLINE, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if ended.returncode != 0:
            raise ConvertError(
                f"the library's process ended with exit code {ended.returncode}",
                where=f"dtype {options['dtype']}",
                remedy="read the lines above this one in the log",
            )
        result = read_record(scratch / RESULT)
    notes = (*NOTES, *result["notes"])
    return BuildRecord(toolchain=result["toolchain"], recipe=result["recipe"], notes=notes)
