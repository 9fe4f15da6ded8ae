"""The far side of a compilation elsewhere: a lab host, or a device that a kit was carried to.

    python -m converters.npu_blob.there JOB

JOB is that of `converters.npu_blob.compile` as JSON, its folders relative to the current one, and
``libraries``: the compiler's two on this machine with their digests, or null where the installed
OpenVINO has them (its Windows wheel). The blob is left in ``into``, and beside it, last,
``RESULT.json``: what it was compiled from and how, its digest, and COMPILED.json.
"""

import json
import sys
import tempfile
from pathlib import Path

from converters.npu_blob.process import COMPILED, compile_blob
from converters.npu_blob.subject import RESULT
from converters.npu_blob.toolchain import lay_out
from phiforge.artifact.npu_blob import BLOB
from phiforge.artifact.record import write_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import run_command


def main() -> None:
    job = json.loads(sys.argv[1])
    subject = job.pop("subject")
    libraries = job.pop("libraries")
    base, into = Path(job.pop("ir")), Path(job.pop("into"))
    with tempfile.TemporaryDirectory(prefix=".compiler-", dir=into) as folder:
        if libraries is not None:
            lay_out(libraries, Path(folder))
        packages = Path(folder).resolve() if libraries is not None else None
        compiled = compile_blob(job, base, into, packages=packages)
    (into / COMPILED).unlink()
    result = {
        "schema": "phiforge/compiled/1",
        **subject,
        "blob": {"sha256": sha256_file(into / BLOB), "size": (into / BLOB).stat().st_size},
        "compiled": compiled,
    }
    write_record(into / RESULT, result)


if __name__ == "__main__":
    run_command(main)
