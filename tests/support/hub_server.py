"""Serve a model Hub on 127.0.0.1 for the real client: commits, LFS storage, faults.

It answers what huggingface_hub 1.21 asks: the listing of a commit with sizes and checksums, and
``resolve`` with ranges. As on the Hub, files in git come from the Hub itself and LFS files by
redirect from another origin, which must never see the token.
"""

import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit

API = "the API"


@dataclass(frozen=True)
class Repository:
    """One commit of one repository: file name to bytes, and which of them are in LFS."""

    name: str
    revision: str
    files: Mapping[str, bytes]
    lfs: frozenset[str]


@dataclass
class Fault:
    """Spoil the next ``times`` requests for ``target`` (a file name or `API`).

    Attributes:
        status: answer with this HTTP status and ``headers`` instead.
        cut: close the connection after so many bytes of the answer.
        reset: the same with a TCP reset.
        hold: send so many bytes of the answer, then nothing until the server stops.
        corrupt: flip one bit at this offset of the file.
        truncate: serve the file as if it had only so many bytes.
        append: serve the file with these bytes after its end.
        ignore_range: answer 200 with the complete file whatever the client asked for.
        body: answer this instead of JSON.
    """

    target: str
    times: int = 1_000_000
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    reset: int | None = None
    hold: int | None = None
    corrupt: int | None = None
    truncate: int | None = None
    append: bytes = b""
    ignore_range: bool = False
    body: bytes | None = None


@dataclass(frozen=True)
class Request:
    """One request that arrived; ``target`` as in `Fault`, ``at`` in seconds."""

    host: str
    target: str
    path: str
    range: str | None
    authorization: str | None
    at: float


class HubServer:
    """Serve repositories inside a ``with`` block, and log all requests."""

    handler: type["Handler"]

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.repositories: list[Repository] = []
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.overrides: dict[str, object] = {}
        self.extra_siblings: list[dict[str, object]] = []
        self.stopping = threading.Event()
        self._scheme = "https" if certificate else "http"
        self._hub = _listen(self, "hub", certificate)
        self._storage = _listen(self, "storage", certificate)

    @property
    def address(self) -> str:
        """The Hub's address, for HF_ENDPOINT."""
        return f"{self._scheme}://127.0.0.1:{self._hub.server_port}"

    @property
    def storage_address(self) -> str:
        """The address that LFS files are redirected to."""
        return f"{self._scheme}://127.0.0.1:{self._storage.server_port}"

    def add(
        self, files: Mapping[str, bytes], *, lfs: tuple[str, ...] = (), name: str = "acme/phi"
    ) -> Repository:
        """Publish a commit; its id follows from its content."""
        digest = hashlib.sha1(name.encode())
        for path, data in sorted(files.items()):
            digest.update(path.encode() + b"\0" + hashlib.sha256(data).digest())
        repository = Repository(name, digest.hexdigest(), dict(files), frozenset(lfs))
        self.repositories.append(repository)
        return repository

    def fail(self, target: str, **fault: object) -> None:
        """Add a `Fault`."""
        self.faults.append(Fault(target, **fault))  # type: ignore[arg-type]

    def heal(self) -> None:
        """Clear all faults and the log."""
        self.faults.clear()
        self.requests.clear()

    def asked(self, target: str) -> list[Request]:
        """Return the requests for the API, or those for a file at the host that has its bytes."""
        return [
            request
            for request in self.requests
            if request.target == target and request.path != "redirected"
        ]

    def take_fault(self, target: str) -> Fault:
        """Return the fault of the next request and count it; without one, an empty fault."""
        for fault in self.faults:
            if fault.target == target and fault.times > 0:
                fault.times -= 1
                return fault
        return Fault(target)

    def __enter__(self) -> Self:
        for server in (self._hub, self._storage):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for server in (self._hub, self._storage):
            server.shutdown()
            server.server_close()


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    hub: HubServer
    host: str

    def handle_error(self, request: object, client_address: object) -> None:
        """Stay silent: a killed client is no error of the server."""


def _listen(hub: HubServer, host: str, certificate: tuple[Path, Path] | None) -> _Listener:
    server = _Listener(("127.0.0.1", 0), hub.handler)
    server.hub, server.host = hub, host
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `HubServer.requests` instead."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)  # through a proxy the path is a whole address
        path = unquote(parts.path)
        if self.server.host == "storage":
            self._storage(path)
        elif path.startswith("/api/models/") and "/revision/" in path:
            name, revision = path.removeprefix("/api/models/").split("/revision/")
            self._listing(name, revision, blobs="blobs" in parse_qs(parts.query))
        elif "/resolve/" in path:
            name, _, rest = path.lstrip("/").partition("/resolve/")
            self._resolve(name, *rest.split("/", 1))
        else:
            self._note(path, path)
            self._answer(404, b"")

    def _note(self, target: str, path: str) -> None:
        get = self.headers.get
        self.server.hub.requests.append(
            Request(
                self.server.host, target, path, get("Range"), get("Authorization"), time.monotonic()
            )
        )

    def _find(self, name: str, revision: str) -> Repository | None:
        """Return the commit; None: the request has been answered with not found."""
        named = [known for known in self.server.hub.repositories if known.name == name]
        for known in named:
            if known.revision == revision:
                return known
        code = "RevisionNotFound" if named else "RepoNotFound"
        self._answer(404 if named else 401, b"", {"X-Error-Code": code})
        return None

    def _listing(self, name: str, revision: str, *, blobs: bool) -> None:
        hub = self.server.hub
        self._note(API, self.path)
        fault = hub.take_fault(API)
        repository = None if fault.status else self._find(name, revision)
        if fault.status:
            self._answer(fault.status, b'{"error": "injected"}', fault.headers)
        if not repository:
            return
        siblings: list[dict[str, object]] = []
        for path, data in repository.files.items():
            sibling: dict[str, object] = {"rfilename": path}
            if blobs:
                sibling |= {"size": len(data), "blobId": git_blob_id(data)}
            if blobs and path in repository.lfs:
                sha256 = hashlib.sha256(data).hexdigest()
                sibling["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(sibling)
        answer = {
            "id": name,
            "sha": revision,
            "siblings": siblings + hub.extra_siblings,
            **hub.overrides,
        }
        self._send(fault.body or json.dumps(answer).encode(), fault)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        repository = self._find(name, revision)
        if not repository:
            return
        if path not in repository.files:
            self._note(path, self.path)
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif path in repository.lfs:
            self._note(path, "redirected")
            place = f"{self.server.hub.storage_address}/{name}/{revision}/{path}?signature=s3cret"
            self._answer(302, b"", {"Location": place})
        else:
            self._file(repository, path)

    def _storage(self, path: str) -> None:
        owner, name, revision, file = path.lstrip("/").split("/", 3)
        repository = self._find(f"{owner}/{name}", revision)
        if repository:
            self._file(repository, file)

    def _file(self, repository: Repository, path: str) -> None:
        self._note(path, self.path)
        fault = self.server.hub.take_fault(path)
        if fault.status:
            self._answer(fault.status, b'{"error": "injected"}', fault.headers)
            return
        data = bytearray(repository.files[path][: fault.truncate] + fault.append)
        if fault.corrupt is not None:
            data[fault.corrupt] ^= 1
        self._send(bytes(data), fault)

    def _send(self, data: bytes, fault: Fault) -> None:
        begin = 0
        asked = self.headers.get("Range")
        if asked and not fault.ignore_range:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(data):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data) - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        self._send_body(data[begin:], fault)

    def _send_body(self, body: bytes, fault: Fault) -> None:
        stop = next((at for at in (fault.cut, fault.reset, fault.hold) if at is not None), None)
        self.wfile.write(body[:stop])
        self.wfile.flush()
        if fault.hold is not None:
            self.server.hub.stopping.wait(60)
        if fault.reset is not None:
            time.sleep(0.05)  # a reset also throws away what the client has not read yet
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
        if stop is not None:
            self.close_connection = True

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


HubServer.handler = Handler


def git_blob_id(data: bytes) -> str:
    """Return the id that ``git hash-object`` gives."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
