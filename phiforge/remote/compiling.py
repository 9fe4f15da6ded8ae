"""Compile an NPU blob where the compiler is: on a lab host over ssh, or by courier.

    python -m phiforge.remote.compiling compile JOB.json
    python -m phiforge.remote.compiling kit --options JSON --base DIR --elsewhere JSON --into ZIP

JOB.json is that of `converters.npu_blob.compile`, and so is what it leaves: the blob, and last
COMPILED.json. ``elsewhere`` in it says how the compiler is reached
(`phiforge.settings.npu_compiler`); where a lab host is, the variable PHIFORGE_LABS says under
``npu_compiler``; which file a courier brought, ``result``. The blob is the one that was
compiled from this very IR with these options;
that it is NPU code is for the caller to prove.
"""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from converters.npu_blob.process import COMPILED
from converters.npu_blob.subject import RESULT, WEIGHTS, compile_job, ir_digests, subject
from phiforge.artifact.npu_blob import BLOB
from phiforge.artifact.record import canonical, write_record
from phiforge.artifact.tree import sha256_file
from phiforge.checkout import ROOT
from phiforge.errors import run_command
from phiforge.remote import RunnerError
from phiforge.remote.compiled_inbox import take
from phiforge.remote.kit import OUT, PYTHON, SCHEMA, Kit, KitFile, kit_file
from phiforge.settings.devices import LOCKS, LabHost
from phiforge.settings.modules import module_files

_THERE = "converters.npu_blob.there"
_HOST = "npu_compiler"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m phiforge.remote.compiling", description=__doc__
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("compile", help="let it be compiled, or take what was")
    command.add_argument("job", type=Path)
    command = commands.add_parser("kit", help="pack the job for a courier")
    command.add_argument("--options", required=True, help="the variant's options, as JSON")
    command.add_argument("--base", required=True, type=Path, help="payload with the IR")
    command.add_argument("--elsewhere", required=True, help="lock and libraries there, as JSON")
    command.add_argument("--into", required=True, type=Path, help="the kit's zip")
    options = parser.parse_args()
    if options.command == "kit":
        _pack(options)
    else:
        _compile(options.job)


def _pack(options: argparse.Namespace) -> None:
    from phiforge.remote.courier import write_kit

    weights = ir_digests(options.base)[WEIGHTS]
    job = compile_job(json.loads(options.options), weights, "NPU")
    kit = compile_kit(job, options.base, json.loads(options.elsewhere))
    write_kit(kit, options.into, payload=True)
    print(f"kit for {kit.title}: {options.into}")


def _compile(job_file: Path) -> None:
    job = json.loads(job_file.read_text(encoding="utf-8"))
    elsewhere, base, into = job.pop("elsewhere"), Path(job.pop("ir")), Path(job.pop("into"))
    if elsewhere["by"] == "courier":
        came = str(elsewhere["result"])
        expects: Mapping[str, Any] = subject(job, base)
        result = take(Path(came), into)
    else:
        from phiforge.remote.ssh import do_over_ssh

        host = LabHost(**json.loads(os.environ["PHIFORGE_LABS"])[_HOST])
        kit = compile_kit(job, base, elsewhere)
        came, expects = host.host, kit.expects
        files = do_over_ssh(kit, host, into=into)
        if RESULT not in files:
            raise RunnerError("no-result", f"no {RESULT} came of it", where=came)
        result = json.loads(files[RESULT])
    write_record(into / COMPILED, compiled(result, expects, into / BLOB, came=came))


def compile_kit(job: Mapping[str, Any], base: Path, elsewhere: Mapping[str, Any]) -> Kit:
    """The kit of a compilation; what it ``expects`` is what the result must be about.

    Args:
        job: of `converters.npu_blob.compile`, without its folders.
        base: payload with the IR, sealed.

    Raises:
        RunnerError: a file of the payload is missing.
    """
    about = subject(job, base)
    there = {
        **job,
        "ir": "../ir",
        "into": f"../{OUT}",
        "libraries": elsewhere["libraries"],
        "subject": about,
    }
    digest = hashlib.sha256(canonical(about).encode()).hexdigest()
    files = tuple(sorted(_files(base, elsewhere), key=lambda file: file.name))
    told = {
        "schema": SCHEMA,
        "title": f"NPU blob for platform {job['platform']}",
        "noun": "compilation",
        "module": _THERE,
        "signs": False,
        "result": f"npu-blob.{digest[:16]}.zip",
        "returns": [BLOB],
        "executes": "compiler",
        "python": ".".join(map(str, PYTHON)),
        "arguments": [canonical(there)],
        "files": {file.name: {"sha256": file.sha256, "size": file.size} for file in files},
    }
    return Kit(told, files, about)


def _files(base: Path, elsewhere: Mapping[str, Any]) -> Iterator[KitFile]:
    for name in module_files(_THERE, "converters.npu_blob.compile"):
        yield kit_file(f"code/{name}", ROOT / name)
    yield kit_file("device.lock", ROOT / LOCKS / f"{elsewhere['lock']}.lock")
    for name, digest in ir_digests(base).items():
        path = base / name
        if not path.is_file():
            raise RunnerError("no-payload", "payload file is missing", where=path)
        yield KitFile(f"ir/{name}", digest, path.stat().st_size, path)


def compiled(
    result: Mapping[str, Any], expects: Mapping[str, Any], blob: Path, *, came: str
) -> dict[str, Any]:
    """COMPILED.json of a result, if it is about what is expected, and about this blob.

    Raises:
        RunnerError: ``other-result``.
    """
    differing = [name for name in expects if result.get(name) != expects[name]]
    if differing:
        raise RunnerError(
            "other-result",
            f"the result is of another job: its '{differing[0]}' differs",
            where=came,
            remedy="run again; without a result of this IR the variant is blocked",
        )
    expected = result["blob"].get("sha256")
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
