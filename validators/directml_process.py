"""Drive Microsoft's DirectML on this CPU: the runner of `make directml`, one process a check.

Jobs and answers are files (envs/directml/runner.cpp); the process lives in namespaces of its own
(envs/directml/enter.sh), which end with this process. It has no network.
"""

import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from phiforge.environment import debian_tree
from validators.contract import ArtifactError, CheckError

ENVIRONMENT = "directml"
TOOLCHAIN = ("onnxruntime-genai-winml",)

_START_LIMIT_S = 120.0
_MEMORY = re.compile("out of memory|bad allocation|8007000E", re.IGNORECASE)
_POLL_S = 0.005
_UNWRITABLE = 4  # the runner's exit code


class DirectmlProcess:
    """A running runner with a build's folder.

    Args:
        job_limit_s: a job that takes longer has hung.
        earlier: take the last onnxruntime-genai-directml instead of onnxruntime-genai-winml.

    Raises:
        EnvironmentMissing: `make directml` was not run.
        CheckError: it does not start, which says nothing of the build.
    """

    def __init__(self, artifact: Path, job_limit_s: float, earlier: bool = False) -> None:
        folder = debian_tree("directml")
        # Below the check's working directory, which goes with the check however this process ends.
        self.jobs = Path(tempfile.mkdtemp(prefix="directml-", dir=Path.cwd()))
        self._job_limit_s, self._asked = job_limit_s, 0
        self._log = self.jobs / "log"
        folders = ["--read", f"{artifact.resolve()}:/payload", "--write", f"{self.jobs}:/jobs"]
        program = "earlier/runner.exe" if earlier else "runner.exe"
        command = ["bash", "/opt/directml/run.sh", program, "Z:/payload", "Z:/jobs"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["sh", str(folder / "enter.sh"), str(folder), *folders, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        ended = self._wait(self.jobs / "0.answer", _START_LIMIT_S)
        if ended is not None:
            self.end()
            raise CheckError(
                f"DirectML's process {ended} before it could begin: {self._last_line()}",
                where=folder,
                remedy="make clean-directml directml",
            )

    def ask(self, verb: str, *lines: str) -> list[str]:
        """Have a job done; the lines of its answer.

        Raises:
            ArtifactError: ``directml-refused``, ``out-of-memory``, ``runtime-crashed`` or
                ``runtime-timeout``; the process is gone then.
            CheckError: the disk is full.
        """
        self._asked += 1
        job, answer = (self.jobs / f"{self._asked}.{kind}" for kind in ("job", "answer"))
        draft = job.with_suffix(".draft")
        draft.write_bytes("\n".join((verb, *lines)).encode())
        draft.replace(job)
        ended = self._wait(answer, self._job_limit_s)
        if ended is not None:
            code = self._process.poll()
            self.end()
            if code == _UNWRITABLE:
                raise CheckError(
                    f"DirectML's process could not write its answer to '{verb}'",
                    where=self.jobs,
                    remedy="make room on this disk",
                )
            name = "runtime-timeout" if ended.startswith("gave") else "runtime-crashed"
            raise ArtifactError(name, f"DirectML's process {ended} at '{verb}'")
        said, *rest = answer.read_text(encoding="utf-8", errors="replace").split("\n")
        if said != "done":
            self.end()
            message = " ".join(" ".join(rest).split())
            name = "out-of-memory" if _MEMORY.search(message) else "directml-refused"
            raise ArtifactError(name, f"at '{verb}': {message[:400]}")
        return rest

    def logits_file(self) -> Path:
        """File of the logits that the last ``score`` gave."""
        return self.jobs / f"{self._asked}.logits"

    def end(self) -> None:
        """End the process and all that it started."""
        self._process.kill()
        self._process.wait()

    def _wait(self, answer: Path, limit_s: float) -> str | None:
        """Wait for ``answer``; else say how the process failed to give it."""
        deadline = time.monotonic() + limit_s
        while not answer.exists():
            code = self._process.poll()
            if code is not None and not answer.exists():
                return f"ended with {_cause(code)}"
            if time.monotonic() > deadline:
                return f"gave no answer within {limit_s:.0f} s"
            time.sleep(_POLL_S)
        return None

    def _last_line(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def _cause(code: int) -> str:
    """Name a signal, which the shell inside gives as 128 and its number.

    >>> _cause(137), _cause(-9), _cause(5)
    ('SIGKILL (out of memory, or killed by hand)', 'SIGKILL (out of memory, or killed by hand)', \
'exit code 5')
    """
    number = code - 128 if code > 128 else -code
    if number <= 0 or number not in set(signal.Signals):
        return f"exit code {code}"
    name = signal.Signals(number).name
    return f"{name} (out of memory, or killed by hand)" if name == "SIGKILL" else name


def words(line: str) -> Sequence[int]:
    """Numbers of a line of an answer.

    >>> words("5 7 ")
    [5, 7]
    """
    return [int(word) for word in line.split()]
