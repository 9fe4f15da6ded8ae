"""Compile an NPU blob where the compiler is: on a lab host over ssh.

    python -m runners.compiling JOB.json

JOB.json is that of `converters.npu_blob.compile`, and so is what it leaves: the blob, and last
COMPILED.json. ``elsewhere`` in it says how the compiler is reached (`configuration.npu_compiler`);
where a lab host is, the variable PHIFORGE_LABS says under ``npu_compiler``. The blob is the one
that was compiled from this very IR with these options; that it is NPU code is for the caller to
prove.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from configuration.devices import LOCKS, LabHost
from configuration.modules import ROOT, module_files
from converters.npu_blob.process import COMPILED
from converters.npu_blob.there import RESULT
from records.errors import run_command
from records.npu_blob import BLOB
from records.record import canonical, write_record
from records.tree import sha256_file
from release.manifest import MANIFEST, read_checksums
from runners import RunnerError
from runners.kit import OUT, PYTHON, SCHEMA, Kit, KitFile, kit_file

_THERE = "converters.npu_blob.there"
_HOST = "npu_compiler"


def main() -> None:
    from runners.ssh import do_over_ssh

    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    elsewhere, base, into = job.pop("elsewhere"), Path(job.pop("ir")), Path(job.pop("into"))
    kit = compile_kit(job, base, elsewhere)
    host = LabHost(**json.loads(os.environ["PHIFORGE_LABS"])[_HOST])
    files = do_over_ssh(kit, host, into=into)
    if RESULT not in files:
        raise RunnerError("no-result", f"no {RESULT} came of it", where=host.host)
    result = json.loads(files[RESULT])
    write_record(into / COMPILED, compiled(result, kit, into / BLOB, came=host.host))


def compile_kit(job: Mapping[str, Any], base: Path, elsewhere: Mapping[str, Any]) -> Kit:
    """The kit of a compilation; what it ``expects`` is what the result must be about.

    Args:
        job: of `converters.npu_blob.compile`, without its folders.
        base: payload with the IR, sealed.

    Raises:
        RunnerError: a file of the payload is missing.
    """
    subject = {"ir": ir_digests(base), **job}
    there = {
        **job,
        "ir": "../ir",
        "into": f"../{OUT}",
        "libraries": elsewhere["libraries"],
        "subject": subject,
    }
    files = tuple(sorted(_files(base, elsewhere), key=lambda file: file.name))
    told = {
        "schema": SCHEMA,
        "title": f"NPU blob for platform {job['platform']}",
        "noun": "compilation",
        "module": _THERE,
        "signs": False,
        "result": f"npu-blob.{subject_sha256(subject)[:16]}.zip",
        "returns": [BLOB],
        "executes": "compiler",
        "python": ".".join(map(str, PYTHON)),
        "arguments": [canonical(there)],
        "files": {file.name: {"sha256": file.sha256, "size": file.size} for file in files},
    }
    return Kit(told, files, subject)


def ir_digests(base: Path) -> dict[str, str]:
    """Every file of the IR's payload to its SHA-256, as it was sealed; not the seal's own."""
    listed = read_checksums(base)
    return {name: listed[name] for name in sorted(listed) if name != MANIFEST}


def subject_sha256(subject: Mapping[str, Any]) -> str:
    """What a compilation is about, IR and options, in one digest."""
    return hashlib.sha256(canonical(subject).encode()).hexdigest()


def _files(base: Path, elsewhere: Mapping[str, Any]) -> Iterator[KitFile]:
    for name in module_files(_THERE, "converters.npu_blob.compile"):
        yield kit_file(f"code/{name}", ROOT / name)
    yield kit_file("device.lock", ROOT / LOCKS / f"{elsewhere['lock']}.lock")
    for name, digest in ir_digests(base).items():
        path = base / name
        if not path.is_file():
            raise RunnerError("no-payload", "payload file is missing", where=path)
        yield KitFile(f"ir/{name}", digest, path.stat().st_size, path)


def compiled(result: Mapping[str, Any], kit: Kit, blob: Path, *, came: str) -> dict[str, Any]:
    """COMPILED.json of a result, if it is about ``kit``'s job and this blob.

    Raises:
        RunnerError: ``other-result``.
    """
    found = {name: result.get(name) for name in kit.expects}
    if found != dict(kit.expects):
        differing = next(name for name in found if found[name] != kit.expects[name])
        raise RunnerError(
            "other-result", f"the result is of another job: its '{differing}' differs", where=came
        )
    expected = result["blob"]["sha256"]
    if (digest := sha256_file(blob)) != expected:
        raise RunnerError(
            "other-result",
            "the blob is not the one that the result tells of",
            where=came,
            expected=expected,
            found=digest,
        )
    return dict(result["compiled"])


if __name__ == "__main__":
    run_command(main)
