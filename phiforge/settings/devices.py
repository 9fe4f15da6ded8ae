"""Device rows of config/devices.yaml and of ``device_files``, checked without connecting."""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phiforge.settings.documents import (
    ConfigurationError,
    beside,
    did_you_mean,
    read_yaml,
    validate,
)

LOCKS = Path("envs")
_PUBLIC_KEY_HEAD = "-----BEGIN PUBLIC KEY-----"


@dataclass(frozen=True)
class LabHost:
    """How a device-lab host is reached; the row's ``ssh`` block.

    Attributes:
        host_key: the host's public key, ``<type> <base64>``; any other key is refused.
        identity: the private key that opens the connection, on this machine.
        python: the interpreter there, by name or path.
        folder: working folder there, relative to the user's home.
        time_limit_s: a check that takes longer is ended.
        heartbeat_s: a check whose client is silent for so long is ended.
        runner_key: path there of the private key that signs receipts; None: the host's own
            PHIFORGE_RUNNER_KEY, or an occasional key.
    """

    host: str
    port: int
    user: str
    host_key: str
    identity: str
    python: str
    folder: str
    time_limit_s: float
    heartbeat_s: float
    runner_key: str | None


@dataclass(frozen=True)
class Device:
    """One row.

    Attributes:
        executes: what must have done the work, for the receipt to pass.
        key: PEM file of the public key that signs the row's receipts.
        ssh: the lab host of a row with ``runner: ssh``; None for all others.
        file: where the row is written.
        lacks: formats that only the row which this one replaces has a runtime for.
    """

    name: str
    summary: str
    kind: str
    runner: str
    executes: str
    standin_for: str | None
    detect: Mapping[str, Any]
    remedy: str
    runtimes: Mapping[str, Mapping[str, Any]]
    key: Path | None = None
    ssh: LabHost | None = None
    file: Path = Path("config/devices.yaml")
    lacks: frozenset[str] = frozenset()

    def lock(self, format_: str) -> Path | None:
        """The locked environment of the row's runtime for ``format_``, for a device elsewhere."""
        name = self.runtimes[format_].get("lock")
        return None if name is None else LOCKS / f"{name}.lock"


def load_devices(files: Iterable[Path]) -> dict[str, Device]:
    """Every row of ``files``; a row of a later file replaces one of the same name.

    Raises:
        ConfigurationError: the first thing that is wrong, naming file and key.
    """
    devices: dict[str, Device] = {}
    for path in files:
        document = read_yaml(path)
        validate(document, "devices", path)
        for name, row in document.items():
            devices[name] = _in_place_of(devices.get(name), _device(name, row, path))
    for device in devices.values():
        if device.standin_for is not None and device.standin_for not in devices:
            raise ConfigurationError(
                f"key '{device.name}.standin_for' names '{device.standin_for}', "
                "which is not a device row",
                where=device.file,
                remedy=did_you_mean(device.standin_for, sorted(devices)),
            )
    return devices


def _in_place_of(old: Device | None, new: Device) -> Device:
    """A lab's row need not have every runtime of ours; what it lacks is blocked there."""
    if old is None:
        return new
    lacks = old.runtimes.keys() - new.runtimes.keys()
    return replace(new, runtimes={**old.runtimes, **new.runtimes}, lacks=frozenset(lacks))


def _device(name: str, row: Mapping[str, Any], path: Path) -> Device:
    runner = row["runner"]
    if runner == "ssh" and "ssh" not in row:
        raise _wrong(path, f"{name}.ssh", "is missing", "say how the lab host is reached")
    if runner != "ssh" and "ssh" in row:
        raise _wrong(path, f"{name}.ssh", f"has no meaning for runner: {runner}", "take it out")
    if runner == "local" and "detect" not in row:
        raise _wrong(
            path,
            f"{name}.detect",
            "is missing",
            "say what must be here for the row to run; {} means always",
        )
    if row["kind"] == "standin" and row["executes"] != "CPU":
        raise _wrong(path, f"{name}.executes", "is not CPU", "a stand-in runs on the CPU")
    device = Device(
        name=name,
        summary=row["summary"],
        kind=row["kind"],
        runner=runner,
        executes=row["executes"],
        standin_for=row.get("standin_for"),
        detect=row.get("detect", {}),
        remedy=row.get("remedy", ""),
        runtimes=row["runtimes"],
        key=_public_key(name, row["key"], path) if "key" in row else None,
        ssh=lab_host(name, row["ssh"], path) if "ssh" in row else None,
        file=path,
    )
    for format_, runtime in row["runtimes"].items():
        _check_lock(device, format_, runtime)
    return device


def _check_lock(device: Device, format_: str, runtime: Mapping[str, Any]) -> None:
    key = f"{device.name}.runtimes.{format_}.lock"
    known = sorted(file.stem for file in LOCKS.glob("device-*.lock"))
    if "lock" in runtime and runtime["lock"] not in known:
        raise _wrong(
            device.file,
            key,
            f"names '{runtime['lock']}', and {LOCKS}/{runtime['lock']}.lock is not there",
            did_you_mean(runtime["lock"], known),
        )
    if "lock" not in runtime and device.runner != "local":
        raise _wrong(
            device.file,
            key,
            "is missing",
            f"name the device's locked environment; known are: {', '.join(known)}",
        )


def lab_host(name: str, block: Mapping[str, Any], path: Path) -> LabHost:
    """The ``ssh`` block below key ``name`` of ``path``, already valid against its schema.

    Raises:
        ConfigurationError: the identity is not there, or the host key is none.
    """
    identity = beside(path, block["identity"])
    if not identity.is_file():
        raise _wrong(
            path,
            f"{name}.ssh.identity",
            f"names '{block['identity']}', and {identity} is not there",
            "paths are relative to this file; name the private key that opens the connection",
        )
    return LabHost(
        host=block["host"],
        port=block.get("port", 22),
        user=block["user"],
        host_key=_host_key(name, block["host_key"], path),
        identity=str(identity),
        python=block.get("python", "python"),
        folder=block.get("folder", "phiforge-lab"),
        time_limit_s=float(block.get("time_limit_s", 6 * 3600)),
        heartbeat_s=float(block.get("heartbeat_s", 60)),
        runner_key=block.get("runner_key"),
    )


def _host_key(name: str, text: str, path: Path) -> str:
    """``<type> <base64>``, whose bytes begin with the same type (RFC 4253, section 6.6)."""
    kind, encoded, *_ = text.split()
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        blob = b""
    head = len(kind).to_bytes(4, "big") + kind.encode()
    if not blob.startswith(head):
        raise _wrong(
            path,
            f"{name}.ssh.host_key",
            f"is not a public host key of type {kind}",
            "copy the line from the host's own /etc/ssh/ssh_host_ed25519_key.pub "
            "(Windows: C:\\ProgramData\\ssh)",
        )
    return f"{kind} {encoded}"


def _public_key(name: str, written: str, path: Path) -> Path:
    file = beside(path, written)
    if not file.is_file():
        raise _wrong(
            path,
            f"{name}.key",
            f"names '{written}', and {file} is not there",
            "paths are relative to this file; name the public key that signs the row's receipts",
        )
    if not file.read_text(encoding="utf-8", errors="replace").startswith(_PUBLIC_KEY_HEAD):
        raise _wrong(
            path,
            f"{name}.key",
            f"names '{written}', which is not a public key in PEM",
            "make one: python -m phiforge.trust new-key --private FILE --public FILE",
        )
    return file


def _wrong(path: Path, key: str, what: str, remedy: str) -> ConfigurationError:
    return ConfigurationError(f"key '{key}' {what}", where=path, remedy=remedy)
