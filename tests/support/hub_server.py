"""Serve a model Hub on 127.0.0.1 for the real client, to fetch from and publish to, with faults.

It answers what huggingface_hub 1.21 asks: listings with sizes and checksums, ``resolve`` with
ranges, LFS uploads, commits that take effect whole, and tags. As on the Hub, files in git come
from the Hub itself and LFS files from (and to) another origin, which must never see the token.
"""

import base64
import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_history import API, COMMIT, UPLOAD, Commit, Fault, Line, Request, mode_of, sibling

DATE = "2026-01-01T00:00:00.000Z"


class HubServer:
    """Serve repositories inside a ``with`` block, and log all requests.

    Attributes:
        redirects: the requests for files in LFS that were sent on to the storage host.
        on_change: called before and after each request that may change something.
        objects: what was uploaded to LFS, by SHA-256; ``uploads``: in which order.
        cards: what the client let the Hub check.
        held: set when a request is held.
    """

    writer = "hf_writer"  # the token that may write
    large = 100_000  # bytes; a larger file is uploaded to LFS

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.lines: dict[str, Line] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.cards: list[str] = []
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.redirects: list[Request] = []
        self.overrides: dict[str, object] = {}
        self.extra_siblings: list[dict[str, object]] = []
        self.held, self.stopping = threading.Event(), threading.Event()
        self.changing = threading.Lock()
        self.on_change: Callable[[str], None] = lambda when: None  # "unserved", "unanswered"
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

    def commit(self, name: str, files: Mapping[str, bytes], lfs: frozenset[str]) -> Commit:
        """Append a commit to a repository; ids differ though contents may not."""
        line = self.lines.setdefault(name, Line())
        text = repr((name, len(line.commits), sorted(files.items())))
        line.commits.append(Commit(name, hashlib.sha1(text.encode()).hexdigest(), files, lfs))
        return line.head

    def fail(self, target: str, **fault: object) -> None:
        """Add a `Fault`."""
        self.faults.append(Fault(target, **fault))  # type: ignore[arg-type]

    def heal(self) -> None:
        """Clear all faults and the log."""
        self.faults.clear()
        self.requests.clear()

    def asked(self, target: str) -> list[Request]:
        """Return the requests for the API, or those for a file at the host that has its bytes."""
        return [request for request in self.requests if request.target == target]

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
    server = _Listener(("127.0.0.1", 0), _Handler)
    server.hub, server.host = hub, host
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:
        """Tests read `HubServer.requests` instead."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)  # through a proxy the path is a whole address
        path = unquote(parts.path).removeprefix("/api/models").lstrip("/")
        owner, repository, what, rest = [*path.split("/", 3), "", ""][:4]
        name = f"{owner}/{repository}"
        if what in ("", "revision"):
            self._listing(name, rest or "main", blobs="blobs" in parse_qs(parts.query))
        elif self.server.host == "storage":
            self._file(self._find(name, what), rest)
        elif what == "resolve":
            self._resolve(name, *rest.split("/", 1))
        elif self._find(name, "main"):
            self._answer(*self._facts(what, self.hub.lines[name]))

    do_HEAD = do_GET  # what the client asks before it downloads a file

    def do_POST(self) -> None:
        path = unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self._arrived(COMMIT if "/commit/" in path else API)
        if self.headers.get("Authorization") != f"Bearer {self.hub.writer}":
            self._answer(403, {"error": "may not write"})
        elif fault.status:
            self._answer(fault.status, {"error": "injected"}, fault.headers)
        elif fault.hold is not None:
            self._hold()
        else:
            with self._changing():
                answer = self._do(path, body)
            if fault.cut is None:
                self._answer(*answer)
            else:  # done, and nobody hears of it
                self.close_connection = True

    def do_DELETE(self) -> None:
        name, _, tag = unquote(self.path).removeprefix("/api/models/").partition("/tag/")
        with self._changing():
            found = self.hub.lines[name].tags.pop(tag, None)
        self._answer(200 if found else 404)

    def do_PUT(self) -> None:
        oid = urlsplit(self.path).path.rsplit("/", 1)[1]
        length = int(self.headers["Content-Length"])
        fault = self._arrived(UPLOAD)
        data = self.rfile.read(length if fault.hold is None else min(fault.hold, length))
        if fault.hold is not None:
            self._hold()
        elif fault.status or hashlib.sha256(data).hexdigest() != oid:
            self._answer(fault.status or 400)
        else:
            with self._changing():
                self.hub.objects[oid] = data
                self.hub.uploads.append(oid)
            self._answer(200)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self.hub.changing:
            self.hub.on_change("unserved")
            yield
            self.hub.on_change("unanswered")

    def _request(self, target: str) -> Request:
        sent = self.headers.get("Range"), self.headers.get("Authorization")
        return Request(self.server.host, target, self.path, *sent, time.monotonic())

    def _arrived(self, target: str) -> Fault:
        """Note a request; what is to go wrong."""
        self.hub.requests.append(self._request(target))
        return self.hub.take_fault(target)

    def _find(self, name: str, revision: str) -> Commit | None:
        """Return the commit; None: the request has been answered with not found."""
        line = self.hub.lines.get(name)
        commit = line.at(revision) if line else None
        if commit is None:
            code = "RevisionNotFound" if line else "RepoNotFound"
            self._answer(404 if line else 401, b"", {"X-Error-Code": code})
        return commit

    def _listing(self, name: str, revision: str, *, blobs: bool) -> None:
        fault = self._arrived(API)
        if fault.status:
            self._answer(fault.status, {"error": "injected"}, fault.headers)
        elif commit := self._find(name, revision):
            answer = {
                "id": name,
                "sha": commit.revision,
                "private": self.hub.lines[name].private,
                "siblings": [sibling(commit, path, blobs=blobs) for path in commit.files]
                + self.hub.extra_siblings,
                **self.hub.overrides,
            }
            self._send(fault.body or json.dumps(answer).encode(), fault)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        commit = self._find(name, revision)
        if commit is None or commit.lfs_digest(path) is None:
            self._file(commit, path)
            return
        self.hub.redirects.append(self._request(path))
        headers = {
            "Location": f"{self.hub.storage_address}/{name}/{commit.revision}/{path}"
            "?signature=s3cret",
            "X-Repo-Commit": commit.revision,
            "X-Linked-ETag": f'"{commit.lfs_digest(path)}"',
            "X-Linked-Size": str(len(commit.files[path])),
        }
        self._answer(302, b"", headers)

    def _file(self, commit: Commit | None, path: str) -> None:
        if commit is None:
            return
        fault = self._arrived(path)
        if path not in commit.files:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        elif fault.status:
            self._answer(fault.status, {"error": "injected"}, fault.headers)
        else:
            data = bytearray(commit.files[path][: fault.truncate] + fault.append)
            if fault.corrupt is not None:
                data[fault.corrupt] ^= 1
            headers = {"X-Repo-Commit": commit.revision, "ETag": f'"{commit.blob_id(path)}"'}
            self._send(bytes(data), fault, headers)

    def _send(self, data: bytes, fault: Fault, headers: Mapping[str, str] | None = None) -> None:
        begin, status = 0, 200
        ranges = {"Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked and not fault.ignore_range:
            begin, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if begin >= len(data):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                return
            ranges["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        stop = next((at for at in (fault.cut, fault.reset, fault.hold) if at is not None), None)
        self._answer(status, data[begin:], {**ranges, **(headers or {})}, stop)
        if fault.hold is not None:
            self._hold()
        if fault.reset is not None:
            time.sleep(0.05)  # a reset also throws away what the client has not read yet
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.wfile.close()
            self.connection.close()
        self.close_connection |= stop is not None

    def _hold(self) -> None:
        self.hub.held.set()
        self.hub.stopping.wait(60)
        self.close_connection = True

    def _answer(
        self,
        status: int,
        answer: object = b"",
        headers: Mapping[str, str] | None = None,
        stop: int | None = None,
    ) -> None:
        """Answer with bytes, of which ``stop`` are sent, or with JSON."""
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:stop])
            self.wfile.flush()

    def _facts(self, what: str, line: Line) -> tuple[int, object]:
        """What the Hub knows of a repository."""
        if what == "refs":
            tags = [
                {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
                for tag, commit in line.tags.items()
            ]
            return 200, {"branches": [], "converts": [], "tags": tags}
        if what == "commits":
            fixed = {"title": "", "message": "", "authors": [], "date": DATE}
            return 200, [{"id": commit.revision, **fixed} for commit in reversed(line.commits)]
        if what == "lfs-files":
            return 200, [
                {"fileOid": oid, "oid": oid, "size": len(data), "pushedAt": DATE, "filename": oid}
                for oid, data in self.hub.objects.items()
            ]
        return 404, {}

    def _do(self, path: str, body: bytes) -> tuple[int, object]:
        """Change what is asked for; status and answer."""
        rows: list[Any] = [json.loads(row) for row in body.splitlines()]
        asked, hub = rows[0], self.hub
        if path == "/api/repos/create":
            name = f"{asked['organization']}/{asked['name']}"
            known = name in hub.lines
            if not known:
                hub.lines[name] = Line(private=asked.get("visibility") == "private")
                hub.commit(name, {".gitattributes": b"*.bin filter=lfs\n"}, frozenset())
            return 409 if known else 200, {"url": f"{hub.address}/{name}"}
        if path == "/api/validate-yaml":
            hub.cards.append(asked["content"])
            errors = [] if "license:" in asked["content"] else [{"message": "license is missing"}]
            return 400 if errors else 200, {"errors": errors, "warnings": []}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._action(one) for one in asked["objects"]]}
        owner, repository, what, *revision = path.removeprefix("/api/models/").split("/")
        line = hub.lines.get(name := f"{owner}/{repository}")
        if line is None:
            return 404, {}
        if what == "preupload":
            return 200, {
                "files": [mode_of(one, line.head, self.hub.large) for one in asked["files"]]
            }
        if what == "commit":
            return self._commit(name, line.head, rows)
        if what == "lfs-files":
            for oid in asked["deletions"]["sha"]:
                hub.objects.pop(oid)
            return 200, {}
        if what == "tag" and asked["tag"] not in line.tags and (commit := line.at(revision[0])):
            line.tags[asked["tag"]] = commit.revision
            return 200, {}
        return 409 if what == "tag" else 404, {}

    def _action(self, asked: dict[str, object]) -> dict[str, object]:
        if asked["oid"] in self.hub.objects:
            return asked
        href = f"{self.hub.storage_address}/upload/{asked['oid']}?signature=s3cret"
        return {**asked, "actions": {"upload": {"href": href}}}

    def _commit(
        self, name: str, head: Commit, rows: list[dict[str, dict[str, str]]]
    ) -> tuple[int, object]:
        files, lfs = dict(head.files), set(head.lfs)
        for row in rows:
            value, path = row["value"], row["value"].get("path", "")
            if row["key"] == "header":
                if value.get("parentCommit", head.revision) != head.revision:
                    return 412, {"error": "the branch has moved"}
            elif row["key"] == "file":
                files[path] = base64.b64decode(value["content"])
                lfs.discard(path)
            elif row["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return 400, {"error": f"{path} was not uploaded"}
                files[path] = self.hub.objects[value["oid"]]
                lfs.add(path)
            elif row["key"] == "deletedFile":
                del files[path]
                lfs.discard(path)
        made = self.hub.commit(name, files, frozenset(lfs))
        url = f"{self.hub.address}/{name}/commit/{made.revision}"
        return 200, {"commitUrl": url, "commitOid": made.revision, "success": True}
