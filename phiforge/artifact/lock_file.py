"""Lock files of pip: every distribution with its version and the digests of its wheels."""

import re
from dataclasses import dataclass
from pathlib import Path

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)((?:.*\\\n)*.*)$", re.MULTILINE)


@dataclass(frozen=True)
class LockedDistribution:
    """One pin.

    Attributes:
        name: normalised: lower case, ``-`` between words.
        sha256: hex digests of the files that may be installed.
    """

    name: str
    version: str
    sha256: tuple[str, ...]

    def __str__(self) -> str:
        """Return the lines of a lock file."""
        hashes = (f"    --hash=sha256:{digest}" for digest in self.sha256)
        return " \\\n".join((f"{self.name}=={self.version}", *hashes)) + "\n"


def read_lock(path: Path) -> dict[str, LockedDistribution]:
    """Return what a lock file pins, by normalised name."""
    text = path.read_text(encoding="utf-8")
    pins = (
        LockedDistribution(
            re.sub(r"[-_.]+", "-", name).lower(),
            version,
            tuple(re.findall(r"--hash=sha256:([0-9a-f]{64})", rest)),
        )
        for name, version, rest in _PIN.findall(text)
    )
    return {pin.name: pin for pin in pins}
