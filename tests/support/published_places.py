"""Where tests publish to: a folder, a bucket and a Hub, as a receiver sees them."""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from huggingface_hub import snapshot_download
from moto.server import ThreadedMotoServer

from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify
from support.hub_server import HubServer
from support.publishing_runs import NAME, Publisher
from support.releasing import SIGNED_VARIANT

REPO = f"acme/phi3-tiny-{SIGNED_VARIANT}"


def bytes_of(folder: Path) -> dict[str, bytes]:
    """The files of a release, without what a Hub and its client add."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    ours = [name for name in names if name.parts[0] not in (".cache", ".gitattributes")]
    return {name.as_posix(): (folder / name).read_bytes() for name in ours}


def received(place: Any, into: Path) -> str | None:
    """The version of the release that a receiver gets, which `verify` must accept."""
    release = place.latest(into)
    if release is None:
        return None
    verification = verify(release, Trust())
    assert not verification.refused, verification.findings
    return verification.version


class Storage:
    """What a reader of a storage does: start from ``latest.json``."""

    def files(self) -> dict[str, bytes]:
        """Every file of the variant."""
        raise NotImplementedError

    def pointer(self) -> Any:
        return json.loads(self.files()["latest.json"])

    def latest(self, into: Path) -> Path | None:
        files = self.files()
        if "latest.json" not in files or (folder := self.pointer()["latest"]) is None:
            return None
        for name, data in files.items():
            if name.startswith(f"{folder}/"):
                path = into / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
        return into / str(folder)

    def state(self) -> object:
        return {name: hashlib.sha256(data).hexdigest() for name, data in self.files().items()}

    def revocations(self) -> bytes | None:
        return self.files().get("revocations.json")

    def forge(self) -> None:
        """Let the pointer say that 0.1.0 is something else."""
        pointer = self.pointer()
        pointer["latest"] = "0.1.0-000000000000"
        pointer["versions"][0].update(artifact_sha256="0" * 64, folder=pointer["latest"])
        self.write("latest.json", json.dumps(pointer).encode())

    def write(self, name: str, data: bytes) -> None:
        raise NotImplementedError


class Folder(Storage):
    """A folder on this machine."""

    def __init__(self, path: Path) -> None:
        self.path = path / NAME

    def files(self) -> dict[str, bytes]:
        return bytes_of(self.path)

    def state(self) -> object:
        inodes = {name: (self.path / name).stat().st_ino for name in self.files()}
        return super().state(), inodes

    def write(self, name: str, data: bytes) -> None:
        (self.path / name).write_bytes(data)


class Bucket(Storage):
    """A bucket of moto's S3 server."""

    def __init__(self, address: str, name: str) -> None:
        self.name = name
        self.client = boto3.client(
            "s3",
            endpoint_url=address,
            region_name="us-east-1",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
        )

    def files(self) -> dict[str, bytes]:
        try:
            listed = self.client.list_objects_v2(Bucket=self.name).get("Contents", [])
        except self.client.exceptions.NoSuchBucket:
            return {}
        return {
            entry["Key"].removeprefix(f"models/{NAME}/"): self._get(entry["Key"])
            for entry in listed
        }

    def write(self, name: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"models/{NAME}/{name}", Body=data)

    def _get(self, key: str) -> bytes:
        data: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return data


class Hub:
    """A repository of a Hub on loopback."""

    def __init__(self, server: HubServer) -> None:
        self.server = server

    def latest(self, into: Path, revision: str = "main", *patterns: str) -> Path | None:
        if REPO not in self.server.lines or "MANIFEST.json" not in self.files():
            return None
        snapshot_download(
            REPO,
            revision=revision,
            allow_patterns=list(patterns) or None,
            endpoint=self.server.address,
            token=self.server.writer,
            local_dir=into,
        )
        return into

    def files(self) -> dict[str, bytes]:
        """What the main branch holds of ours."""
        files = self.server.lines[REPO].head.files
        return {name: data for name, data in files.items() if name != ".gitattributes"}

    def state(self) -> object:
        line = self.server.lines[REPO]
        return len(line.commits), dict(line.tags), len(self.server.uploads)

    def revocations(self) -> bytes | None:
        return self.files().get("revocations.json") if REPO in self.server.lines else None

    def write(self, name: str, data: bytes) -> None:
        head = self.server.lines[REPO].head
        self.server.commit(REPO, {**head.files, name: data}, head.lfs)

    def forge(self) -> None:
        """Let the tag of 0.1.0 name something else."""
        self.write("SHA256SUMS", b"other")
        line = self.server.lines[REPO]
        line.tags["v0.1.0"] = line.head.revision


@contextmanager
def folder_for(publisher: Publisher, path: Path) -> Iterator[Folder]:
    """Let the command publish to a folder."""
    publisher.policy["storage"] = [{"url": str(path)}]
    yield Folder(path)


@contextmanager
def bucket_for(publisher: Publisher, path: Path) -> Iterator[Bucket]:
    """Let the command publish to a bucket that does not exist yet."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    address = f"http://{host}:{port}"
    name = f"releases-{uuid.uuid4()}"  # moto's servers share what they hold
    options = {"endpoint_url": address, "region": "us-east-1"}
    publisher.policy["storage"] = [{"url": f"s3://{name}/models", "options": options}]
    publisher.environment |= {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    try:
        yield Bucket(address, name)
    finally:
        server.stop()


@contextmanager
def hub_for(publisher: Publisher, path: Path) -> Iterator[Hub]:
    """Let the command publish to a Hub."""
    with HubServer() as server:
        publisher.policy["hub"] = {"repo": "acme/{model}-{variant}"}
        publisher.environment |= {
            "HF_ENDPOINT": server.address,
            "HF_TOKEN": server.writer,
            "HF_HUB_DISABLE_XET": "1",
        }
        yield Hub(server)


PLACES = {"folder": folder_for, "bucket": bucket_for, "hub": hub_for}
