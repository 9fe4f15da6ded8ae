"""The compile step as a process of its own: here, or elsewhere (`phiforge.remote.compiling`)."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from converters.contract import ConvertError
from phiforge.artifact.record import read_record
from phiforge.offline import OFFLINE

COMPILED = "COMPILED.json"
HERE = "converters.npu_blob.compile"
ELSEWHERE = "phiforge.remote.compiling compile"
_CODE = Path(__file__).resolve().parents[2]
_ERROR = "error: "


def compile_blob(
    job: Mapping[str, Any], base: Path, into: Path, *, packages: Path | None, module: str = HERE
) -> dict[str, Any]:
    """Let ``python -m MODULE [COMMAND] JOB.json`` write the blob into ``into``; what it recorded.

    Args:
        base: folder of the IR.
        packages: folder with the OpenVINO that compiles; None: the installed one.

    Raises:
        ConvertError: the process failed, in its own words if it had some.
    """
    job_file = into / "COMPILE.json"
    job_file.write_text(
        json.dumps({**job, "ir": str(base.resolve()), "into": str(into.resolve())}),
        encoding="utf-8",
    )
    path = [str(packages)] if packages else []
    ended = subprocess.run(
        [sys.executable, "-m", *module.split(), str(job_file)],
        env={**os.environ, **OFFLINE, "PYTHONPATH": os.pathsep.join([*path, str(_CODE)])},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    job_file.unlink()
    *before, last = ended.stderr.strip().splitlines() or [""]
    if ended.returncode == 1 and last.startswith(_ERROR):
        print("\n".join(before), file=sys.stderr, end="\n" if before else "", flush=True)
        raise ConvertError(last.removeprefix(_ERROR))
    print(ended.stderr, file=sys.stderr, end="", flush=True)
    if ended.returncode != 0:
        raise ConvertError(
            f"the compile process ended with exit code {ended.returncode}",
            remedy="read the lines above this one in the log",
        )
    return read_record(into / COMPILED)
