"""The Hub's side of publishing: repositories, LFS uploads, commits and tags, with faults.

What huggingface_hub 1.21 asks for. As on the Hub, large files go to a storage host of its own,
which must never see the token, and a commit takes effect whole.
"""

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from support.hub_server import API, Handler, HubServer, Repository

LARGE = 100_000
UPLOAD = "an upload"
COMMIT = "a commit"


@dataclass
class Line:
    """One repository's history: commits, oldest first, and tags to commit ids."""

    private: bool
    commits: list[Repository] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> Repository:
        return self.commits[-1]

    def at(self, revision: str) -> str:
        """The commit id that a branch, a tag or a commit id names."""
        return self.head.revision if revision == "main" else self.tags.get(revision, revision)


class PublishingHub(HubServer):
    """A Hub that takes releases from whoever has the token ``writer``."""

    writer = "hf_writer"

    def __init__(self) -> None:
        self.lines: dict[str, Line] = {}
        self.objects: dict[str, bytes] = {}
        self.uploads: list[str] = []
        self.cards: list[str] = []
        self.held = threading.Event()
        self.changing = threading.Lock()
        super().__init__()

    def commit(self, name: str, files: dict[str, bytes], lfs: frozenset[str]) -> Repository:
        """Append a commit; ids differ though contents may not."""
        line = self.lines[name]
        text = repr((name, len(line.commits), sorted(files.items())))
        made = Repository(name, hashlib.sha1(text.encode()).hexdigest(), files, lfs)
        line.commits.append(made)
        self.repositories.append(made)
        return made


class WritingHandler(Handler):
    """Adds what changes a repository, and names for commits."""

    @property
    def hub(self) -> PublishingHub:
        hub = self.server.hub
        assert isinstance(hub, PublishingHub)
        return hub

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path).removeprefix("/api/models/")
        name = "/".join(path.lstrip("/").split("/")[:2])
        line = self.hub.lines.get(name)
        rest = path.lstrip("/").removeprefix(name)
        if self.server.host == "storage":
            super().do_GET()
        elif line is None:
            self._note(API, self.path)
            self._find(name, "main")  # there is none, and it answers so
        elif rest == "/refs":
            self._json({"branches": [], "converts": [], "tags": self._tags(line)})
        elif rest.startswith("/commits/"):
            self._json([self._told(one) for one in reversed(line.commits)])
        elif rest == "/lfs-files":
            self._json([self._stored(oid, data) for oid, data in self.hub.objects.items()])
        elif rest == "" or rest.startswith("/revision/"):
            revision = line.at(rest.removeprefix("/revision/") or "main")
            self.hub.overrides = {"private": line.private}
            self._listing(name, revision, blobs="blobs" in parse_qs(parts.query))
        elif rest.startswith("/resolve/"):
            revision, file = rest.removeprefix("/resolve/").split("/", 1)
            self._resolve(name, line.at(revision), file)
        else:
            self._answer(404, b"")

    def do_HEAD(self) -> None:
        """What the client asks before it downloads a file."""
        name, _, rest = unquote(urlsplit(self.path).path).lstrip("/").partition("/resolve/")
        revision, path = rest.split("/", 1)
        commit = self._find(name, self.hub.lines[name].at(revision))
        if commit is None:
            return
        data = commit.files[path]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit.revision)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = unquote(urlsplit(self.path).path)
        self._note(API, path)
        if self.headers.get("Authorization") != f"Bearer {self.hub.writer}":
            self._answer(403, b'{"error": "may not write"}')
            return
        fault = self.hub.take_fault(COMMIT if "/commit/" in path else API)
        if fault.status:
            self._answer(fault.status, b'{"error": "injected"}', fault.headers)
            return
        if fault.hold is not None:
            self._hold()
            return
        with self.hub.changing:
            answer = self._do(path, body)
        if fault.cut is not None:  # done, and nobody hears of it
            self.close_connection = True
            return
        status, told = answer
        self._json(told, status)

    def do_DELETE(self) -> None:
        name, _, tag = unquote(self.path).removeprefix("/api/models/").partition("/tag/")
        found = self.hub.lines[name].tags.pop(tag, None)
        self._answer(200 if found else 404, b"{}")

    def do_PUT(self) -> None:
        oid = urlsplit(self.path).path.rsplit("/", 1)[1]
        length = int(self.headers["Content-Length"])
        self._note(UPLOAD, self.path)
        fault = self.hub.take_fault(UPLOAD)
        if fault.status:
            self.rfile.read(length)
            self._answer(fault.status, b"")
        elif fault.hold is not None:
            self.rfile.read(min(fault.hold, length))
            self._hold()
        else:
            data = self.rfile.read(length)
            if hashlib.sha256(data).hexdigest() != oid:
                self._answer(400, b"")
                return
            self.hub.objects[oid] = data
            self.hub.uploads.append(oid)
            self._answer(200, b"")

    def _hold(self) -> None:
        self.hub.held.set()
        self.hub.stopping.wait(60)
        self.close_connection = True

    def _do(self, path: str, body: bytes) -> tuple[int, object]:
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._card(json.loads(body)["content"])
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._action(one) for one in json.loads(body)["objects"]]}
        owner, repository, what, *revision = path.removeprefix("/api/models/").split("/")
        name = f"{owner}/{repository}"
        if name not in self.hub.lines:
            return 404, {}
        if what == "preupload":
            head = self.hub.lines[name].head
            return 200, {"files": [_mode(one, head) for one in json.loads(body)["files"]]}
        if what == "commit":
            return self._commit(name, [json.loads(row) for row in body.splitlines()])
        if what == "tag":
            line, tag = self.hub.lines[name], json.loads(body)["tag"]
            if tag in line.tags:
                return 409, {}
            line.tags[tag] = line.at(revision[0])
            return 200, {}
        if what == "lfs-files":
            for oid in json.loads(body)["deletions"]["sha"]:
                self.hub.objects.pop(oid)
            return 200, {}
        return 404, {}

    def _create(self, asked: dict[str, str]) -> tuple[int, object]:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.address}/{name}"}
        if name in self.hub.lines:
            return 409, url
        self.hub.lines[name] = Line(private=asked.get("visibility") == "private")
        self.hub.commit(name, {".gitattributes": b"*.bin filter=lfs\n"}, frozenset())
        return 200, url

    def _card(self, text: str) -> tuple[int, object]:
        self.hub.cards.append(text)
        errors = [] if "license:" in text else [{"message": "license is missing"}]
        return (400 if errors else 200), {"errors": errors, "warnings": []}

    def _action(self, asked: dict[str, object]) -> dict[str, object]:
        if asked["oid"] in self.hub.objects:
            return dict(asked)
        href = f"{self.hub.storage_address}/upload/{asked['oid']}?signature=s3cret"
        return {**asked, "actions": {"upload": {"href": href}}}

    def _commit(self, name: str, rows: list[dict[str, dict[str, str]]]) -> tuple[int, object]:
        line = self.hub.lines[name]
        files, lfs = dict(line.head.files), set(line.head.lfs)
        for row in rows:
            value, path = row["value"], row["value"].get("path", "")
            if row["key"] == "header":
                if value.get("parentCommit", line.head.revision) != line.head.revision:
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

    def _tags(self, line: Line) -> list[dict[str, str]]:
        return [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": commit}
            for tag, commit in line.tags.items()
        ]

    def _told(self, commit: Repository) -> dict[str, object]:
        date = "2026-01-01T00:00:00.000Z"
        return {"id": commit.revision, "title": "", "message": "", "authors": [], "date": date}

    def _stored(self, oid: str, data: bytes) -> dict[str, object]:
        date = "2026-01-01T00:00:00.000Z"
        return {"fileOid": oid, "oid": oid, "size": len(data), "pushedAt": date, "filename": oid}

    def _json(self, told: object, status: int = 200) -> None:
        self._answer(status, json.dumps(told).encode(), {"Content-Type": "application/json"})


PublishingHub.handler = WritingHandler


def _mode(asked: dict[str, object], head: Repository) -> dict[str, object]:
    """How a file is to be uploaded, and the id of what ``main`` holds under its name."""
    path, size = str(asked["path"]), asked["size"]
    assert isinstance(size, int)
    known = {}
    if path in head.files:
        data = head.files[path]
        blob = hashlib.sha1(b"blob %d\0" % len(data) + data)
        known = {"oid": (hashlib.sha256(data) if path in head.lfs else blob).hexdigest()}
    mode = "lfs" if size > LARGE else "regular"
    return {"path": path, "uploadMode": mode, "shouldIgnore": False, **known}
