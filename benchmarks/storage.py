"""Release every variant on machines that share no files, and count what goes through the storage.

    python benchmarks/storage.py [--variants NAME …] [--folder FOLDER]

Needs `make storage` (docs/cluster.md), and half an hour. The storage is moto's S3 on this machine;
each job runs in an empty folder of its own (storage_job.py) and is known to the storage by its
access key. The command is the page's. The result goes to storage.json beside this file.
"""

import argparse
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


def run(checkout: Checkout, jobs: Path, endpoint: str, *words: str) -> subprocess.Popen[str]:
    tools = [tool for tool in (NPU_LIBRARY, NPU_COMPILER) if (tool / ".installed").is_file()]
    job = f"{SNAKEMAKE.parent / 'python'} {ROOT / 'benchmarks/storage_job.py'}"
    linked = " ".join(str(tool.resolve()) for tool in tools)
    with (jobs / "client.log").open("a") as log:
        return subprocess.Popen(
            [
                str(SNAKEMAKE),
                *("--profile", "profiles/storage"),
                *("--default-storage-prefix", f"s3://{BUCKET}/run"),
                *("--storage-s3-endpoint-url", endpoint),
                *("--executor", "cluster-generic"),
                *("--cluster-generic-submit-cmd", f"{job} submit {jobs} {linked} --"),
                *("--cluster-generic-status-cmd", f"{job} status"),
                *("--jobs", "2", "--seconds-between-status-checks", "2"),
                *words,
            ],
            cwd=checkout.folder,
            env={
                **os.environ,
                "AWS_ACCESS_KEY_ID": CLIENT,
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
            },
            stdout=log,
            stderr=log,
            text=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", nargs="*", default=[])
    parser.add_argument("--folder", type=Path, help="keep everything here")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="phiforge-storage-"))
    (folder / "jobs").mkdir(parents=True, exist_ok=True)
    checkout = make_checkout(folder / "client")
    app = Counted()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    chosen = [f"variants={','.join(arguments.variants)}"] if arguments.variants else []
    with serving(app) as endpoint:
        boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1",
            aws_access_key_id="bench", aws_secret_access_key="secret",
        ).create_bucket(Bucket=BUCKET)  # fmt: skip
        started = time.monotonic()
        words = ["all", *(["--config", *chosen] if chosen else [])]
        code = run(checkout, folder / "jobs", endpoint, *words).wait()
        print(f"exit code {code} after {time.monotonic() - started:.0f} s")
    print(json.dumps(app.of, indent=1, sort_keys=True))
    print(facts() and RESULT)


if __name__ == "__main__":
    main()
