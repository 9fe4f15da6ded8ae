"""How a compilation ends: which compiler it was, or why there is no blob."""

import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from phiforge.child import die_with_parent
from phiforge.errors import PhiforgeError

REFUSED = 3
_ERROR = "error: "
_LONGEST_MESSAGE = 400


class CompilerError(PhiforgeError):
    """Nothing could be compiled, for a reason that is not the IR's."""


class IrRefused(PhiforgeError):
    """The compiler cannot compile an IR, or crashes on it."""


@dataclass(frozen=True)
class CompilerRecord:
    """The compiler that made a blob.

    Attributes:
        openvino: release and build of the OpenVINO around it.
        version: its own, ``major.minor``.
        libraries: file name to SHA-256 of what was loaded to compile.
        host: what ran it, such as ``wine-8.0``; the same bytes come out on any.
    """

    openvino: str
    version: str
    libraries: Mapping[str, str]
    host: str

    @property
    def label(self) -> dict[str, Any]:
        """What of it shapes a blob: all but its host, in JSON's types."""
        return {"version": self.version, "libraries": dict(self.libraries)}


def version_text(number: str) -> str:
    """Return NPU_COMPILER_VERSION in words.

    >>> version_text("524292")
    '8.4'
    """
    return f"{int(number) >> 16}.{int(number) & 0xFFFF}"


def run_compiler(
    command: Sequence[str],
    *,
    cwd: Path,
    environment: Mapping[str, str],
    time_limit_s: float,
    platform: str,
    prepare: Callable[[], None] = die_with_parent,
) -> str:
    """Run a compiling process that ends with this one; return what it printed.

    Its exit code is 0, or `REFUSED` where the compiler refused the IR, or another where something
    else went wrong; the last line of its standard error then says what, after ``error: ``.

    Raises:
        IrRefused: it refused, or crashed.
        CompilerError: it was killed, took too long, or could not do its work.
    """
    # Files, not pipes: a wineserver that outlives the compiler would keep a pipe open for ever.
    with TemporaryFile() as output, TemporaryFile() as errors:
        try:
            code = subprocess.run(
                command,
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=time_limit_s,
                check=False,
                preexec_fn=prepare,
            ).returncode
        except subprocess.TimeoutExpired:
            raise CompilerError(
                f"the NPU compiler did not end within {time_limit_s:.0f} s (platform {platform})",
                remedy="run it on a faster machine, or leave this out",
            ) from None
        printed, complaint = _text(output), _text(errors)
    lines = complaint.strip().splitlines()
    said = next((line for line in reversed(lines) if line.startswith(_ERROR)), "")
    said = _short(said.removeprefix(_ERROR))
    if code == 0:
        return printed
    if code == REFUSED:
        raise IrRefused(f"the NPU compiler does not take this IR for platform {platform}: {said}")
    if said:
        raise CompilerError(f"the NPU compiler cannot work: {said}", remedy=_REMEDY)
    raise CompilerError(
        f"the NPU compiler's process ended with {_ending(code)} "
        f"({' '.join(lines[-1:]) or 'it said nothing'})",
        remedy="run again; if it was out of memory, on a machine with more",
    )


_REMEDY = "see docs/npu-blob.md, 'The compiler'"


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")


def _short(message: str) -> str:
    """Keep a message's step and its end: OpenVINO's begin with its source files."""
    step, _, rest = " ".join(message.split()).partition(": ")
    cut = (
        rest
        if len(rest) <= _LONGEST_MESSAGE
        else f"\N{HORIZONTAL ELLIPSIS}{rest[-_LONGEST_MESSAGE:]}"
    )
    return f"{step}: {cut}" if rest else step


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"
