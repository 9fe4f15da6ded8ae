"""What takes the place of what a page's reader has and a test has not, page by page."""

import getpass
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import yaml
from moto.server import ThreadedMotoServer

from phiforge.trust.keys import new_key
from support.checkout import ROOT
from support.hub_server import HubServer
from support.lab_host import lab_server
from support.pages import Reader
from support.releasing import make_certified

TINY = ROOT / "models/phi3-tiny"


@contextmanager
def nothing(reader: Reader) -> Iterator[Reader]:
    yield reader


@contextmanager
def a_fine_tune(reader: Reader) -> Iterator[Reader]:
    """A local checkpoint: phi3-tiny's."""
    weights = reader.home / "my-phi/weights"
    weights.mkdir(parents=True)
    for line in (TINY / "SHA256SUMS").read_text().splitlines():
        shutil.copy(TINY / line[66:], weights / line[66:])
    yield reader


@contextmanager
def an_authority(reader: Reader) -> Iterator[Reader]:
    """A key with a password, and the certificate that an authority issued for it."""
    keys = reader.home / "keys"
    made = make_certified(reader.home / "authority")
    keys.mkdir()
    for old, new in ((made.certificate, "acme"), (made.chain, "issuer"), (made.authority, "ca")):
        shutil.copy(old, keys / f"{new}.crt")
    protect = ["openssl", "pkey", "-in", made.key, "-aes256", "-passout", "pass:a password"]
    subprocess.run([*protect, "-out", keys / "acme.pem"], check=True)
    (keys / "acme.pem").chmod(0o600)
    yield replace(
        reader,
        environment={**reader.environment, "RELEASE_KEY_PASSWORD": "a password"},
        standins={"CN=Releases,O=Acme": made.subject},
    )


@contextmanager
def places(reader: Reader) -> Iterator[Reader]:
    """A Hub and an S3 on loopback; a clone that builds one variant; a release key; the verifier."""
    chosen = reader.checkout / "config/config.yaml"
    config = yaml.safe_load(chosen.read_text()) | {"variants": ["openvino-int4"]}
    chosen.write_text(yaml.safe_dump(config))
    new_key(reader.home / "keys/release.pem", reader.home / "keys/release.pub", kind="ecdsa")
    write_verifier = ["phiforge", "verifier", "--into", reader.home / "phiforge-verify.pyz"]
    subprocess.run(write_verifier, cwd=reader.checkout, env=dict(reader.environment), check=True)
    storage = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    storage.start()
    host, port = storage.get_host_and_port()
    secrets = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
    try:
        with HubServer() as hub:
            secrets |= {"HF_ENDPOINT": hub.address, "HF_TOKEN": hub.writer}
            yield replace(
                reader,
                environment={**reader.environment, **secrets, "HF_HUB_DISABLE_XET": "1"},
                standins={"https://s3.example.com": f"http://{host}:{port}"},
            )
    finally:
        storage.stop()


@contextmanager
def a_lab(reader: Reader) -> Iterator[Reader]:
    """A lab host, sshd on loopback, whose account is this one.

    What the page has relative to the account's home is below the reader's.
    """
    with lab_server(reader.home / "sshd") as server:
        (reader.home / ".ssh").mkdir()
        shutil.copy(server.identity, reader.home / ".ssh/phiforge")
        new_key(reader.home / "npu-lab.pem", reader.home / "lab/npu-lab.pub")
        here = os.path.relpath(reader.home, Path.home())
        yield replace(
            reader,
            standins={
                "host: npu-lab.example": f"host: 127.0.0.1\n    port: {server.port}",
                "user: phiforge": f"user: {getpass.getuser()}",
                "ssh-ed25519 AAAA…": server.host_key,
                "python: python3.11": f"python: {sys.executable}",
                "folder: phiforge-lab": f"folder: {here}/phiforge-lab",
                "runner_key: keys/": f"runner_key: {here}/keys/",
            },
        )


STAND_INS: dict[str, Callable[[Reader], AbstractContextManager[Reader]]] = {
    "docs/adding.md": a_fine_tune,
    "docs/devices.md": a_lab,
    "docs/publishing.md": places,
    "docs/releases.md": an_authority,
}


def stand_ins(page: str) -> Callable[[Reader], AbstractContextManager[Reader]]:
    """What a page needs, given to its reader for as long as it is read."""
    return STAND_INS.get(page, nothing)
