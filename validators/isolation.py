"""Run a runtime in a child process and name the way it died, if it did."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiforge.artifact.record import read_record
from phiforge.checkout import ROOT
from phiforge.environment import interpreter
from phiforge.jobs import NO_LIMITS, Limits
from phiforge.offline import OFFLINE
from phiforge.trust.keys import RUNNER_KEY, SIGNING_KEY
from validators import intel_gpu_tree, worker
from validators.contract import CheckError
from validators.intel_gpu_tree import (
    command_in_tree,
    keep_kernels,
    refuse_full_disk,
    take_kernels,
)
from validators.run_result import RunResult, RuntimeFailure, read_run_result

PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}
"""torch's threads sleep while OpenVINO's work: a check of npu-library-int4 then takes 26 s of two
processors instead of 63."""

_NTSTATUS_ERROR = 0xC0000000
_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT)
"""No crash: a scheduler ends what reaches its time limit, a person what they started."""


def run_in_subprocess(
    payload: Path,
    module: str,
    settings: Mapping[str, Any],
    reference: Path,
    golden: Path,
    *,
    time_limit_s: float,
    limits: Limits = NO_LIMITS,
    environment: str | None = None,
) -> RunResult:
    """Run the golden prompts through ``payload`` in a child process (`validators.worker`).

    A child that is killed, aborts or does not end in time becomes a result whose failure is named
    ``runtime-crashed`` or ``runtime-timeout``.

    Args:
        limits: what the variant declares.
        environment: the locked environment that the child runs in (`phiforge.environment`);
            None: this one.

    Raises:
        CheckError: the child could not do its work for a reason that is not the artifact's; its
            own message is in the log.
        EnvironmentMissing: ``environment`` is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="phiforge-check-") as name:
        folder = Path(name)
        job = {
            "payload": str(payload.resolve()),
            "module": module,
            "settings": dict(settings),
            "reference": str(reference.resolve()),
            "golden": str(golden.resolve()),
            "into": str(folder),
            "limits": asdict(limits),
        }
        job_file = folder / "JOB.json"
        job_file.write_text(json.dumps(job), encoding="utf-8")
        arguments = ["-m", worker.__name__, str(job_file)]
        in_tree = environment == intel_gpu_tree.NAME
        if in_tree:
            read = (payload, reference, golden.parent)
            command = command_in_tree(arguments, read, folder, {**PASSIVE, **OFFLINE})
            take_kernels(folder)
        else:
            python = sys.executable if environment is None else str(interpreter(environment))
            command = [python, *arguments]
        try:
            ended = subprocess.run(
                command,
                cwd=folder,
                env={**PASSIVE, **_without_keys(os.environ), **OFFLINE, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                timeout=time_limit_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _ended("runtime-timeout", f"did not end within {time_limit_s:.0f} s", folder)
        if in_tree:
            refuse_full_disk(folder)
        if -ended.returncode in _FROM_OUTSIDE:
            raise CheckError(
                "the check's own process was ended from outside",
                found=signal.Signals(-ended.returncode).name,
                remedy="run again; on a cluster, see whether the job reached its time limit",
            )
        death = cause_of_death(ended.returncode)
        if death is not None:
            return _ended("runtime-crashed", f"ended by {death}", folder)
        if ended.returncode != 0:
            raise CheckError(
                f"the check's own process ended with exit code {ended.returncode}",
                where=f"validators/runtimes/{module}.py",
                remedy="read the lines above this one in the log",
            )
        if in_tree:
            keep_kernels(folder)
        return read_run_result(folder)


def _without_keys(environment: Mapping[str, str]) -> dict[str, str]:
    """Drop the variables that say where keys are and what opens them."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith((RUNNER_KEY, SIGNING_KEY))
    }


def _ended(name: str, how: str, folder: Path) -> RunResult:
    doing = folder / worker.DOING
    step = doing.read_text(encoding="utf-8") if doing.is_file() else "starting"
    versions = folder / worker.TOOLCHAIN_FILE
    return RunResult(
        prompts=(),
        evidence=None,
        toolchain=read_record(versions) if versions.is_file() else {},
        failure=RuntimeFailure(name, f"the runtime {how} while {step}"),
    )


def cause_of_death(exit_code: int) -> str | None:
    """Name what ended a process that did not end by itself; None: it did.

    POSIX gives the negative number of a signal, Windows an NTSTATUS error (0xC…) as exit code.

    >>> cause_of_death(-11), cause_of_death(0xC0000005), cause_of_death(1)
    ('SIGSEGV', 'exception 0xC0000005', None)
    """
    if exit_code >= _NTSTATUS_ERROR:
        return f"exception 0x{exit_code:08X}"
    if exit_code >= 0:
        return None
    name = signal.Signals(-exit_code).name
    return f"{name} (out of memory, or killed by hand)" if name == "SIGKILL" else name
