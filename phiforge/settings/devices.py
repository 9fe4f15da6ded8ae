"""Device rows of config/devices.yaml and of `device_files`, checked without connecting."""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from phiforge.settings.blocks import (
    Block,
    Items,
    Name,
    RelativePath,
    Text,
    existing_file,
    mistake,
    read_block,
)
from phiforge.settings.documents import ConfigurationError, did_you_mean, read_named_blocks

LOCKS = Path("envs")
_PUBLIC_KEY_HEAD = "-----BEGIN PUBLIC KEY-----"


def _real_host_key(text: str) -> str:
    """Return ``<type> <base64>``, whose bytes begin with the same type (RFC 4253, section 6.6)."""
    kind, encoded, *_ = text.split()
    try:
        blob = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        blob = b""
    if not blob.startswith(len(kind).to_bytes(4, "big") + kind.encode()):
        raise mistake(
            f"is not a public host key of type {kind}",
            "copy the line from the host's own /etc/ssh/ssh_host_ed25519_key.pub "
            "(Windows: C:\\ProgramData\\ssh)",
        )
    return f"{kind} {encoded}"


def _public_key(key: Path) -> Path:
    if not key.read_text(encoding="utf-8", errors="replace").startswith(_PUBLIC_KEY_HEAD):
        raise mistake(
            f"names '{key}', which is not a public key in PEM",
            "make one: python -m phiforge.trust new-key --private FILE --public FILE",
        )
    return key


class LabHost(Block):
    """How a device-lab host is reached.

    Attributes:
        host: name or address; e.g. npu.lab.example
        port: port of its sshd
        user: the account on the host; e.g. phiforge
        host_key: the host's public key, the line of its ssh_host_…_key.pub; any other key is
            refused; e.g. ssh-ed25519 AAAAC3Nza…
        identity: private key file that opens the connection, relative to this file or to ~; e.g.
            ~/.ssh/lab
        python: Python 3.11 on the host, by name or path, without spaces. Where it has the locked
            packages it runs the check, else an environment is made from the lock
        folder: working folder on the host, relative to the account's home
        time_limit_s: a check that takes longer is ended, in seconds
        heartbeat_s: a check ends when this machine or the host is silent for so many seconds
        runner_key: path on the host, relative to the account's home, of the private key that signs
            receipts; it never leaves the host. null: the host's own PHIFORGE_RUNNER_KEY, or an
            ephemeral key; e.g. keys/runner.pem
    """

    host: Text
    port: int = Field(22, ge=1, le=65535)
    user: Text
    host_key: Annotated[str, AfterValidator(_real_host_key)] = Field(
        pattern="^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/=]+( .*)?$"
    )
    identity: Annotated[
        RelativePath, existing_file("name the private key that opens the connection")
    ]
    python: str = Field("python", pattern=r"^[A-Za-z0-9_.:/\\-]+$")
    folder: str = Field("phiforge-lab", pattern=r"^[^~\s]+$")
    time_limit_s: float = Field(6 * 3600.0, gt=0)
    heartbeat_s: float = Field(60.0, ge=2)
    runner_key: Text | None = None


class Slurm(Block):
    """Which nodes of a cluster have a row's device; at least one of the first three is named.

    Attributes:
        partition: Slurm's partition; null: the cluster's default; e.g. npu
        constraint: the features that the node must have; e.g. npu-4000
        gres: the generic resource that the check takes; e.g. npu:1
        runner_key: absolute path, on the node, of the private key that signs receipts; null: the
            PHIFORGE_RUNNER_KEY of the run, or an ephemeral key; e.g.
            /etc/phiforge/runner.pem
    """

    partition: Text | None = None
    constraint: Text | None = None
    gres: Text | None = Field(None, pattern=r"^\w+(:[\w.]+)?(:[0-9]+)?$")
    runner_key: str | None = Field(None, pattern="^/")

    @model_validator(mode="after")
    def _names_a_place(self) -> "Slurm":
        if not (self.partition or self.constraint or self.gres):
            raise mistake("is missing", "name partition, constraint or gres", key="constraint")
        return self


class Detect(Block):
    """What must be on this machine, or on the node, for a row to run; nothing means always.

    Attributes:
        platform: what Python's sys.platform starts with; e.g. win32
        files: glob patterns, absolute or below the project folder, that must each match a file;
            e.g. ["/dev/accel/accel*"]
        containing: texts, one of which a matched file must contain; e.g. ["0x8086"]
        distributions: Python packages that must be installed; e.g. ["onnxruntime-genai-winml"]
        tool: what must be set up here, of the locks and sources as they are now (make npu-compiler,
            make directml, make intel-gpu), or named in config/config.yaml
    """

    platform: str | None = None
    files: Items[Text] = ()
    containing: Items[str] = ()
    distributions: Items[str] = ()
    tool: Literal["npu_compiler", "directml", "intel_gpu"] | None = None


class Runtime(Block):
    """The runtime of one artifact format on a row.

    Attributes:
        module: module of validators/runtimes; e.g. openvino
        environment: locked environment that it runs in, made by `make NAME` (.venv-NAME; intel-gpu:
            the main one in a tree of its own); null: the main one
        lock: locked environment of a device elsewhere, the name of envs/NAME.lock; rows with
            another runner than local need it; e.g. device-openvino
        settings: settings of the runtime module; e.g. {"device": "CPU"}
    """

    module: str = Field(pattern="^[a-z_]+$")
    environment: Literal["npu-library", "intel-gpu"] | None = None
    lock: str | None = Field(None, pattern="^device-[a-z0-9-]+$")
    settings: dict[str, Any] = Field({})

    @field_validator("lock")
    @classmethod
    def _lock_exists(cls, lock: str | None) -> str | None:
        if lock is not None and lock not in (known := _known_locks()):
            raise mistake(
                f"names '{lock}', and {LOCKS}/{lock}.lock is not there", did_you_mean(lock, known)
            )
        return lock


class Device(Block):
    """One row of config/devices.yaml or of `device_files`, under the row's name.

    Attributes:
        summary: what the row is, in a few words that fit 'no … here'; e.g. Intel NPU
        kind: device: the artifact's real target; standin: the same pipeline on another processor,
            or the device's own runtime in software;
            compiler: the device's compiler, which takes the artifact and executes nothing
        stands_for: the device rows that a stand-in or a compiler speaks for; a compiler names one;
            e.g. ["npu-4000"]
        runner: how the device is reached: local is this machine, ssh a lab host, cluster a node
            that Slurm chooses, courier a kit that is carried
        executes: what must have done the work, for a receipt to pass; of a compiler, what its code
            is for
        key: PEM file of the public key that signs the row's receipts, relative to this file; stable
            needs it; e.g. keys/npu.pub
        ssh: the lab host of a row with runner: ssh
        slurm: the nodes of a row with runner: cluster
        detect: what must be on this machine, or on the node, for the row to run; {} means always;
            rows with runner: local or cluster need it
        remedy: how to get this device's receipt where the device is not; e.g. run this on a Linux
            machine with an NPU
        parameters: a model with more parameters is too slow here, and its receipt is blocked; null:
            no limit; e.g. 1.0e+8
        layers: of a model that is too slow here, so many first layers with embedding and head are
            built by the same recipe and checked instead, and never released; null: nothing is; e.g.
            2
        runtimes: artifact format to the runtime that runs it on this row
    """

    name: SkipJsonSchema[str]
    file: SkipJsonSchema[Path]
    lacks: SkipJsonSchema[frozenset[str]] = frozenset()
    """Formats that only the row which this one replaces has a runtime for."""

    summary: Text
    kind: Literal["device", "standin", "compiler"]
    stands_for: Items[str] = ()
    runner: Literal["local", "ssh", "cluster", "courier"]
    executes: Literal["CPU", "GPU", "NPU", "DML", "CUDA", "WEBGPU"]
    key: (
        Annotated[
            RelativePath,
            AfterValidator(_public_key),
            existing_file("name the public key that signs the row's receipts"),
        ]
        | None
    ) = None
    ssh: LabHost | None = None
    slurm: Slurm | None = None
    detect: Detect = Field(default_factory=Detect)
    remedy: str = ""
    parameters: float | None = Field(None, gt=0)
    layers: int | None = Field(None, ge=1)
    runtimes: Annotated[dict[Name, Runtime], Field(min_length=1)]

    @model_validator(mode="after")
    def _fits_its_runner(self) -> "Device":
        for runner, key, given, remedy in (
            ("ssh", "ssh", self.ssh, "say how the lab host is reached"),
            ("cluster", "slurm", self.slurm, "say which nodes have the device"),
        ):
            if self.runner == runner and given is None:
                raise mistake("is missing", remedy, key=key)
            if self.runner != runner and given is not None:
                raise mistake(f"has no meaning for runner: {self.runner}", "take it out", key=key)
        if self.is_in_place and "detect" not in self.model_fields_set:
            remedy = "say what must be there for the row to run; {} means always"
            raise mistake("is missing", remedy, key="detect")
        in_software = any(one.environment == "intel-gpu" for one in self.runtimes.values())
        if self.kind == "standin" and self.executes not in ("CPU", "DML", *["GPU"] * in_software):
            remedy = "a stand-in runs on the CPU, or in software: as DML, or as GPU in intel-gpu"
            raise mistake("is neither CPU nor DML", remedy, key="executes")
        if self.kind != "standin" and in_software:
            remedy = "it has no GPU: a row in this environment is a stand-in"
            raise mistake("is not standin", remedy, key="kind")
        if self.kind == "compiler" and (self.runner != "local" or len(self.stands_for) != 1):
            remedy = "a compiler runs here (runner: local), for one device row (stands_for)"
            raise mistake("does not fit the row", remedy, key="kind")
        for format_, runtime in self.runtimes.items():
            if runtime.lock is None and not self.is_in_place:
                known = ", ".join(_known_locks())
                remedy = f"name the device's locked environment; known are: {known}"
                raise mistake("is missing", remedy, key=f"runtimes.{format_}.lock")
        return self

    @property
    def is_in_place(self) -> bool:
        """Whether the check runs in this checkout and its environment, here or on a node."""
        return self.runner in ("local", "cluster")

    def lock(self, format_: str) -> Path | None:
        """Return the locked environment of a device elsewhere for ``format_``."""
        name = self.runtimes[format_].lock
        return None if name is None else LOCKS / f"{name}.lock"


def load_devices(files: Iterable[Path]) -> dict[str, Device]:
    """Read every row of ``files``; a row of a later file replaces one of the same name.

    Raises:
        ConfigurationError: the first thing that is wrong, naming file and key.
    """
    devices: dict[str, Device] = {}
    for path in files:
        for name, row in read_named_blocks(path):
            device = read_block(Device, row, path, name, name=name, file=path)
            devices[name] = _replace(devices[name], device) if name in devices else device
    for device in devices.values():
        for other in device.stands_for:
            if other not in devices:
                raise ConfigurationError(
                    f"key '{device.name}.stands_for' names '{other}', which is not a device row",
                    where=device.file,
                    remedy=did_you_mean(other, sorted(devices)),
                )
    return devices


def _replace(old: Device, new: Device) -> Device:
    """Keep the old runtimes: what a lab's row lacks of them is blocked, not unknown."""
    lacks = frozenset(old.runtimes.keys() - new.runtimes.keys())
    return new.model_copy(update={"runtimes": {**old.runtimes, **new.runtimes}, "lacks": lacks})


def _known_locks() -> list[str]:
    return sorted(file.stem for file in LOCKS.glob("device-*.lock"))
