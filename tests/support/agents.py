"""Agents that share what they make: builds of a few bytes and receipts, in milliseconds."""

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from phiforge.artifact.manifest import write_manifest
from phiforge.artifact.record import write_record
from phiforge.artifact.scratch import remove_tree
from phiforge.cache.command import CachedCommand
from phiforge.cache.key import cache_key, read_shared_job
from phiforge.cache.process import answer
from phiforge.cache.work import read_work
from phiforge.jobs import Check, Convert, Recipe
from phiforge.settings.modules import pinned_toolchain
from phiforge.trust import keys
from support.jobs import JOBS, Names, write_job
from support.small_release import MODEL, VARIANT, SmallVariant

SOURCE = {"kind": "local", "files": [{"path": "model.safetensors", "sha256": "c" * 64, "size": 8}]}
NUMPY = pinned_toolchain("converters.openvino")["numpy"]


@dataclass
class Agent:
    """A machine with a key, work of its own, and the storage that it shares with others."""

    folder: Path
    storage: Mapping[str, Any]
    monkeypatch: pytest.MonkeyPatch
    believes: list[Path] = field(default_factory=list)
    time_limit_s: int = 60

    def __post_init__(self) -> None:
        self.private, self.public = self.folder / "runner.pem", self.folder / "runner.pub"
        self.keyid = keys.new_key(self.private, self.public).keyid
        self.name = f"urn:test:{self.folder.name}"

    @property
    def configured(self) -> dict[str, Any]:
        return {
            "storage": dict(self.storage),
            "keys": list(map(str, self.believes)),
            "builder": self.name,
            "time_limit_s": self.time_limit_s,
        }

    def asked(self, argv: list[str], do: str, **request: Any) -> dict[str, Any]:
        """What the process that talks to the storage answers."""
        self.monkeypatch.setenv(keys.RUNNER_KEY, str(self.private))
        asked = {"do": do, "argv": argv, "cache": self.configured, "time_limit_s": 60, **request}
        return answer(asked, patience=lambda seconds: None)

    def put(self, argv: list[str], *, write: bool = True, again: bool = False) -> list[str]:
        """Share what stands; what the log says."""
        asked = self.asked(argv, "put", key=key_of(argv), write=write, again=again)
        notes: list[str] = asked["notes"]
        return notes

    def command(self, argv: list[str]) -> CachedCommand:
        """The job's side, with a real process."""
        self.monkeypatch.setenv(keys.RUNNER_KEY, str(self.private))
        work = read_work(argv)
        assert work is not None
        return CachedCommand(work, argv, self.configured)

    def conversion(self, **changes: Any) -> list[str]:
        """The command of rule convert, for a source of one file."""
        job = replace(JOBS.convert(Names(variant="openvino-fp16")), **changes)
        source = self.folder / "source/SOURCE.json"
        if not source.is_file():
            write_record(source, SOURCE)
        return ["convert", str(write_job(self.folder / "jobs", job)), "--source", str(source),
                "--base", "--memory-mb", "1", "--into", str(self.folder / "build")]  # fmt: skip

    def build(self, data: bytes = b"weights", **changes: Any) -> list[str]:
        """Make what the conversion makes; its command."""
        job: Convert = JOBS.convert(Names(variant="openvino-fp16"))
        payload = self.folder / "build/payload"
        remove_tree(payload)
        (payload / "tokenizer").mkdir(parents=True)
        (payload / "model.bin").write_bytes(data)
        (payload / "tokenizer/vocab.json").write_text("{}\n")
        facts = {"model": job.model, "variant": job.variant, "source": SOURCE,
                 "toolchain": {"numpy": NUMPY}, **changes}  # fmt: skip
        made = {"artifact_sha256": write_manifest(payload, facts), "project": {"clean": True}}
        write_record(self.folder / "build/BUILD.json", {**facts, **made})
        return self.conversion()

    def take(self, argv: list[str]) -> tuple[bool, list[str]]:
        """Whether something was taken, and what the log says; nothing is put in its place."""
        scratch = self.folder / "scratch"
        remove_tree(scratch)
        scratch.mkdir()
        answered = self.asked(argv, "take", scratch=str(scratch))
        return "records" in answered, answered["notes"]


MakeAgent = Callable[..., Agent]


def only(notes: list[str], *words: str) -> None:
    """Assert that one note holds all of these words."""
    assert any(all(word in note for word in words) for note in notes), notes


def key_of(argv: list[str]) -> str | None:
    """The key of a command's inputs; None: its result is not shared."""
    work = read_work(argv)
    assert work is not None
    job = read_shared_job(work)
    return None if job is None else cache_key(work, job)


class CheckedVariant(SmallVariant):
    """A small variant, with the command that checks it on the NPU's stand-in."""

    def check(self, row: str = "npu-standin", key: Path | None = None) -> list[str]:
        write_record(self.folder / "source/SOURCE.json", SOURCE)
        recipe = Recipe("openvino", "openvino", "int4", None, {})
        of = self.rows[row].row
        job = Check(MODEL, VARIANT, recipe, of, JOBS.check(Names(variant=VARIANT, device="cpu"))
                    .limits, {}, {}, False, None)  # fmt: skip
        return [
            "check", str(write_job(self.folder / "jobs", job)),
            "--artifact", str(self.build.parent), "--source", str(self.folder / "source/files"),
            "--reference", str(self.folder), "--golden", str(self.golden),
            "--acceptance", str(self.acceptance), "--memory-mb", "1",
            *(["--key", str(key)] if key else []), "--receipt", str(self.receipt(row)),
        ]  # fmt: skip

    def sign_standin(self, signer: keys.Signer, **changes: Any) -> None:
        receipt = self.passed("npu-standin", toolchain={}, **changes)
        self.put("npu-standin", receipt, signer)


class Shelf:
    """A folder that agents share."""

    def __init__(self, path: Path) -> None:
        self.path, self.configured = path, {"url": str(path)}

    def names(self) -> list[str]:
        found = [path for path in self.path.rglob("*") if path.is_file()]
        return sorted(path.relative_to(self.path).as_posix() for path in found)

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes | None) -> None:
        if data is None:
            (self.path / name).unlink()
        else:
            (self.path / name).write_bytes(data)


class Bucket(Shelf):
    """A bucket of moto's S3 server."""

    def __init__(self, address: str, name: str) -> None:
        options = {"endpoint_url": address, "region": "us-east-1", "retries": 1}
        self.configured = {"url": f"s3://{name}/shared", "options": options}
        self.name = name
        self.client = boto3.client("s3", endpoint_url=address, region_name="us-east-1")

    def names(self) -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        return sorted(entry["Key"].removeprefix("shared/") for entry in found)

    def read(self, name: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=f"shared/{name}")["Body"].read()
        return data

    def write(self, name: str, data: bytes | None) -> None:
        if data is None:
            self.client.delete_object(Bucket=self.name, Key=f"shared/{name}")
        else:
            self.client.put_object(Bucket=self.name, Key=f"shared/{name}", Body=data)


@contextmanager
def bucket(name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket that does not exist yet."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield Bucket(f"http://{host}:{port}", name)
    finally:
        server.stop()


def statement_in(envelope: bytes) -> dict[str, Any]:
    """What an envelope holds."""
    held: dict[str, Any] = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
    return held
