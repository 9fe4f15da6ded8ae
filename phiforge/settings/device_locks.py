"""envs/device-*.lock: the small environments in which devices elsewhere run checks; directml.lock.

    python -m phiforge.settings.device_locks        (part of ``make lock``)

A device's lock is cut out of envs/main.lock, so that a device and this agent run the same
versions; the hashes there are of every platform's wheels. What only Windows has is asked of the
index, as pip is configured. Like the main lock these are complete without being resolved:
``pip install --no-deps --require-hashes``. Left out on purpose are torch, openvino-telemetry
(it phones home) and huggingface-hub, which tokenizers names but does not import.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from phiforge.artifact.lock_file import LockedDistribution, read_lock
from phiforge.artifact.record import write_text
from phiforge.artifact.tree import sha256_file
from phiforge.errors import run_command
from phiforge.settings.documents import ConfigurationError
from phiforge.settings.modules import LOCK

_CHECKS = (
    "cffi",
    "cryptography",
    "numpy",
    "pycparser",
    "pyyaml",
    "safetensors",
    "tokenizers",
)
_ONNX = ("ml-dtypes", "onnx", "protobuf", "typing-extensions")

CUT: Mapping[str, tuple[str, ...]] = {
    "device-openvino": (*_CHECKS, "openvino", "openvino-genai", "openvino-tokenizers"),
    "device-onnx-genai": (*_CHECKS, *_ONNX, "onnxruntime", "onnxruntime-genai"),
    "device-directml": (*_CHECKS, *_ONNX),
}
"""Lock to what is taken from the main lock."""

WINDOWS: Mapping[str, Mapping[str, str]] = {
    "device-directml": {"onnxruntime-genai-winml": "0.18.0"},  # bundles onnxruntime and DirectML
    # Of these `make directml` takes the DLLs: today's wheel, and the last of the two before it.
    "directml": {
        "onnxruntime-genai-winml": "0.18.0",
        "onnxruntime-genai-directml": "0.14.1",
        "onnxruntime-directml": "1.24.4",
    },
}
"""Lock to what only Windows has: distribution to version."""

_HEAD = "# Made by 'make lock'. Install with: pip install --no-deps --require-hashes -r THIS_FILE\n"


def main() -> None:
    for name in {**CUT, **WINDOWS}:
        windows = [
            LockedDistribution(only, pin, (_windows_sha256(only, pin),))
            for only, pin in WINDOWS.get(name, {}).items()
        ]
        write_text(LOCK.with_name(f"{name}.lock"), lock_text(name, windows))


def lock_text(name: str, windows: Iterable[LockedDistribution]) -> str:
    """Return the lock file ``name``; ``windows`` are the distributions of `WINDOWS`.

    Raises:
        ConfigurationError: the main lock does not pin what is asked for.
    """
    main = read_lock(LOCK)
    for distribution in CUT.get(name, ()):
        if distribution not in main:
            raise ConfigurationError(
                f"{name} needs '{distribution}', which is not pinned here",
                where=LOCK,
                remedy="run 'make lock', or correct phiforge/settings/device_locks.py",
            )
    pins = [*(main[distribution] for distribution in CUT.get(name, ())), *windows]
    return _HEAD + "".join(str(pin) for pin in sorted(pins, key=lambda pin: pin.name))


def _windows_sha256(name: str, pin: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps",
             "--only-binary=:all:", "--platform", "win_amd64", "--python-version", "3.11",
             "--dest", folder, f"{name}=={pin}"],
            check=True,
        )  # fmt: skip
        (wheel,) = Path(folder).iterdir()
        return sha256_file(wheel)


if __name__ == "__main__":
    run_command(main)
