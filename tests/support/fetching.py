"""Run the fetch command as a user does, on a small checkpoint."""

import hashlib
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from safetensors.numpy import save

from phiforge.jobs import Fetch as FetchJob
from support.hub_history import Commit
from support.hub_server import HubServer
from support.jobs import command, write_job

ROOT = Path(__file__).parents[2]
TOKEN = "hf_aSecretThatNobodyMaySee"
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


def make_checkpoint() -> dict[str, bytes]:
    """Make a sharded checkpoint of random tensors, and files that no checkpoint needs."""
    random = np.random.default_rng(0)
    tensors = {
        SHARDS[0]: {"embed": random.standard_normal((300, 256), dtype=np.float32)},
        SHARDS[1]: {"head": random.standard_normal((200, 256), dtype=np.float32)},
    }
    weight_map = {tensor: shard for shard, held in tensors.items() for tensor in held}
    files = {shard: save(held) for shard, held in tensors.items()}
    files |= {
        INDEX: json.dumps({"weight_map": weight_map}).encode(),
        "config.json": json.dumps({"auto_map": {"AutoModel": "modeling_phi3.Phi3"}}).encode(),
        "generation_config.json": b'{"eos_token_id": 1}',
        "tokenizer.json": b'{"model": {}}',
        "tokenizer_config.json": b"{}",
        "LICENSE": b"MIT License\n",
        "NOTICE.md": b"A notice.\n",
        "README.md": b"A card.\n",
        "modeling_phi3.py": b"raise SystemExit('remote code ran')\n",
        "pytorch_model.bin": b"a pickle",
        "original/consolidated.safetensors": b"x" * 1000,
    }
    return files


NEEDED = {
    *SHARDS, INDEX, "config.json", "generation_config.json",
    "tokenizer.json", "tokenizer_config.json", "LICENSE", "NOTICE.md",
}  # fmt: skip


@dataclass
class Fetch:
    """Runs the fetch command and checks its result."""

    into: Path
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, source: Mapping[str, object]) -> list[str]:
        """Return the command line for a source block."""
        job = write_job(self.into.parent, FetchJob("phi", source))
        return command("fetch", job, "--into", self.into)

    def start(self, source: Mapping[str, object]) -> subprocess.Popen[str]:
        """Start the command and do not wait for it."""
        return subprocess.Popen(
            self.command(source),
            cwd=ROOT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, source: Mapping[str, object]) -> tuple[int, str]:
        """Run the command; return its exit code and output, which never hold a secret."""
        process = self.start(source)
        output, _ = process.communicate(timeout=60)
        assert TOKEN not in output
        assert "signature" not in output
        return process.returncode, output

    def succeeds(self, source: Mapping[str, object], files: Mapping[str, bytes]) -> str:
        """Run it and check that the tree is exactly ``files``, read-only; return the output."""
        code, output = self.run(source)
        assert code == 0, output
        self.holds(source, files)
        assert not (self.into / ".download").exists()
        assert not list(self.into.glob(".files.*.partial"))
        return output

    def holds(self, source: Mapping[str, object], files: Mapping[str, bytes]) -> None:
        """Check that the tree is exactly ``files``, and that the record lists them."""
        tree = self.into / "files"
        found = {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*")}
        assert found == dict(files)
        assert all(path.stat().st_mode & 0o222 == 0 for path in tree.iterdir())
        record = self.record()
        listed = [(entry["path"], entry["size"], entry["sha256"]) for entry in record["files"]]
        assert listed == [
            (name, len(data), hashlib.sha256(data).hexdigest())
            for name, data in sorted(files.items())
        ]
        origin = {key: value for key, value in record.items() if key != "files"}
        if "repo" in source:
            wanted = {"repo": source["repo"], "revision": source["revision"]}
            assert origin == {"kind": "hub", **wanted}
        else:
            assert origin == {"kind": "local"}

    def fails(self, source: Mapping[str, object], *words: str) -> str:
        """Check that it ends in one line of error with ``words``, and leaves no tree."""
        line = self.refuses(source, *words)
        assert not (self.into / "files").exists()
        assert not (self.into / "SOURCE.json").exists()
        return line

    def refuses(self, source: Mapping[str, object], *words: str) -> str:
        """Check that it ends in one line of error with ``words``; return the line."""
        code, output = self.run(source)
        assert code == 1, output
        assert "Traceback" not in output
        lines = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1
        assert output.splitlines()[-1] == lines[0]
        for word in words:
            assert word in lines[0]
        assert not list(self.into.glob(".files.*.partial"))
        return lines[0]

    def record(self) -> dict[str, Any]:
        """Read SOURCE.json."""
        record: dict[str, Any] = json.loads((self.into / "SOURCE.json").read_text())
        return record


@dataclass
class HubModel:
    """A commit on a Hub, and the command that fetches it."""

    hub: HubServer
    fetch: Fetch
    commit: Commit

    @classmethod
    def publish(
        cls, hub: HubServer, fetch: Fetch, files: Mapping[str, bytes], lfs: tuple[str, ...] = SHARDS
    ) -> Self:
        """Add a commit of ``files`` to the Hub."""
        return cls(hub, fetch, hub.commit("acme/phi", files, frozenset(lfs)))

    @property
    def source(self) -> dict[str, object]:
        """The source block that pins the commit."""
        return {"repo": self.commit.name, "revision": self.commit.revision}

    @property
    def needed(self) -> dict[str, bytes]:
        """The files that must arrive."""
        return {name: data for name, data in self.commit.files.items() if name in NEEDED}

    def succeeds(self) -> str:
        """Fetch it and check the tree; return the output."""
        return self.fetch.succeeds(self.source, self.needed)

    def fails(self, *words: str, **change: object) -> str:
        """Check that it, or its changed source, cannot be fetched; return the line."""
        return self.fetch.fails({**self.source, **change}, *words)

    def ranges(self, target: str) -> list[str | None]:
        """Return the range of each request for ``target``."""
        return [request.range for request in self.hub.asked(target)]
