"""Release every variant on machines that share no files, and count what goes through the storage.

    python benchmarks/storage.py [--variants NAME …] [--jobs 2] [--folder FOLDER]

Needs `make storage` (docs/cluster.md), and half an hour. The storage is moto's S3 on this machine;
each job runs in an empty folder of its own (storage_job.py) and is known to the storage by its
access key. The command is the page's. The result goes to storage.json beside this file.
"""

import argparse
import datetime
import json
import logging
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from machine import facts
from pipeline.test_payload_bytes import digests, listed
from support.checkout import NPU_COMPILER, NPU_LIBRARY, ROOT, Checkout, make_checkout

RESULT = Path(__file__).with_name("storage.json")
SNAKEMAKE = ROOT / ".venv-storage/bin/snakemake"
CLIENT, BUCKET = "client", "phiforge"
_SIGNED_BY = re.compile(r"Credential=([^/,]+)/")


class Counted:
    """moto's S3, and who sent and received how many bytes of what."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self.of: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        found = _SIGNED_BY.search(environ.get("HTTP_AUTHORIZATION", ""))
        who = found[1] if found else "unsigned"
        kind = _kind(environ["PATH_INFO"])
        self._count(who, "requests", 1)
        self._count(who, f"{kind}_sent", int(environ.get("CONTENT_LENGTH") or 0))
        for part in self._app(environ, start):
            self._count(who, f"{kind}_received", len(part))
            yield part

    def _count(self, who: str, what: str, number: int) -> None:
        with self._lock:
            self.of[who][what] += number


def _kind(path: str) -> str:
    """Tell payloads, the archive of the sources, and records apart."""
    if "/payloads/" in path:
        return "payloads"
    return "sources" if "snakemake-workflow-sources" in path else "records"


@contextmanager
def serving(app: Counted) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


class Bench:
    """A checkout where Snakemake runs, and the folders where its jobs do.

    Args:
        endpoint: of the storage.
        at_once: how many jobs may run at a time.
    """

    def __init__(self, folder: Path, endpoint: str, at_once: int) -> None:
        self._at_once = at_once
        self._jobs, self._endpoint = folder / "jobs", endpoint
        self._jobs.mkdir(parents=True, exist_ok=True)
        self.checkout = make_checkout(folder / "client")

    def run(self, *words: str) -> int:
        """Run the page's command to its end, and return its exit code."""
        job = f"{sys.executable} {ROOT / 'benchmarks/storage_job.py'}"
        tools = [one for one in (NPU_LIBRARY, NPU_COMPILER) if (one / ".installed").is_file()]
        installed = " ".join(str(tool.resolve()) for tool in tools)
        with (self._jobs / "client.log").open("a") as log:
            return subprocess.call(
                [
                    *(str(SNAKEMAKE), "--profile", "profiles/storage"),
                    *("--default-storage-prefix", f"s3://{BUCKET}/run"),
                    *("--storage-s3-endpoint-url", self._endpoint),
                    *("--executor", "cluster-generic", "--jobs", str(self._at_once)),
                    *("--cluster-generic-submit-cmd", f"{job} submit {self._jobs} {installed} --"),
                    *("--cluster-generic-status-cmd", f"{job} status"),
                    *("--seconds-between-status-checks", "2"),
                    *words,
                ],
                cwd=self.checkout.folder,
                env={**os.environ, **credentials(CLIENT)},
                stdout=log,
                stderr=log,
            )

    def output(self) -> str:
        return (self._jobs / "client.log").read_text()

    def folders(self) -> list[str]:
        """Name the jobs that had a folder of their own."""
        return sorted(one.name for one in self._jobs.iterdir() if one.is_dir())


def credentials(name: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": "us-east-1"}


def verified(checkout: Checkout) -> dict[str, dict[str, Any]]:
    """Verify each release, and compare its payload with the list of the local pipeline's."""
    releases = {}
    for manifest in sorted(checkout.release().glob("[!.]*/MANIFEST.json")):
        folder = manifest.parent
        command = ("-m", "phiforge", "verify", "--any-signer", str(folder))
        done = checkout.run(sys.executable, *command, check=False)
        found, expected = digests(folder.name, folder), listed()
        payload = {
            file: one for file, one in expected.items() if file.startswith(f"{folder.name}/")
        }
        releases[folder.name] = {
            "verify": done.returncode,
            "bytes_as_locally": bool(payload) and payload.items() <= found.items(),
            "payload_bytes": sum((folder.parent / file).stat().st_size for file in payload),
        }
    return releases


def measure(bench: Bench, storage: Counted, chosen: list[str]) -> dict[str, Any]:
    words = ["all", *chosen]
    started = time.monotonic()
    code = bench.run(*words)
    assert code == 0, bench.output()[-4000:]
    result: dict[str, Any] = {
        "seconds": round(time.monotonic() - started),
        "releases": verified(bench.checkout),
        "jobs": {who: dict(sorted(counted.items())) for who, counted in sorted(storage.of.items())},
        "own_folders": bench.folders(),
    }
    storage.of.clear()
    assert bench.run(*words) == 0 and "Nothing to be done" in bench.output(), bench.output()[-4000:]
    result["nothing_to_do"] = dict(sorted(storage.of[CLIENT].items()))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="*", default=[], help="by default every one")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    parser.add_argument("--folder", type=Path, help="keep everything here")
    arguments = parser.parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    storage = Counted()
    with (
        tempfile.TemporaryDirectory(prefix="phiforge-storage-") as scratch,
        serving(storage) as url,
    ):
        create_bucket(url)
        chosen = ["--config", f"variants={','.join(arguments.variants)}"]
        bench = Bench(arguments.folder or Path(scratch), url, arguments.jobs)
        result = measure(bench, storage, chosen if arguments.variants else [])
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    text = json.dumps({**result, "date": today, "machine": facts()}, indent=2, sort_keys=True)
    RESULT.write_text(text + "\n")
    print(text)


def create_bucket(endpoint: str) -> None:
    """Make the bucket, as the owner of the storage does."""
    key = {"aws_access_key_id": "bench", "aws_secret_access_key": "any"}
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **key)
    client.create_bucket(Bucket=BUCKET)


if __name__ == "__main__":
    main()
