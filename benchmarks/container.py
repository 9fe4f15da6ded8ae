"""Run the default model's `all` in the image of `make container`, as docs/container.md says.

    python benchmarks/container.py IMAGE --scratch DIR [--cores 2]

Needs root, podman and the image. As a normal user, on a root file system that cannot be written,
without network: that is tried out first, with the same options. Which runtime podman takes, and its
limits, are podman's own configuration (CONTAINERS_CONF). The result goes to container.json beside
this file.
"""

import argparse
import datetime
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import facts
from phiforge.artifact.record import read_record
from phiforge.verify.trust import Trust
from phiforge.verify.verification import verify

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_name("container.json")
PAYLOADS = ROOT / "tests/pipeline/payload-sha256.txt"
USER = 1000
LIMITS = ("--read-only", "--network", "none", "--user", f"{USER}:{USER}")
FOLDERS = ("artifacts", ".snakemake")
COMPILERS = ("cc", "gcc", "g++", "clang", "c++", "ld", "rustc", "go")
TRIED = (
    "/", "/usr", "/home", "/tmp", "/phiforge", "/phiforge/.venv", "/phiforge/artifacts",
    "/phiforge/.snakemake",
)  # fmt: skip
PROBE = f"""
import json, os, platform, shutil
def writable(folder):
    try:
        open(folder + "/probe", "w").close()
        os.remove(folder + "/probe")
        return True
    except OSError:
        return False
print(json.dumps(dict(
    python=platform.python_version(),
    user=os.getuid(),
    network=sorted(os.listdir("/sys/class/net")),
    compilers=[name for name in {COMPILERS!r} if shutil.which(name)],
    writable=[folder for folder in {TRIED!r} if writable(folder)],
)))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image")
    parser.add_argument("--scratch", type=Path, required=True, help="a folder that is not there")
    parser.add_argument("--cores", type=int, default=2)
    arguments = parser.parse_args()
    for name in FOLDERS:
        (arguments.scratch / name).mkdir(parents=True)
        os.chown(arguments.scratch / name, USER, USER)
    shutil.copy(ROOT / "artifacts/README.md", arguments.scratch / "artifacts")  # git knows it
    run = ["podman", "run", "--rm", *LIMITS]
    for name in FOLDERS:
        run += ["--volume", f"{(arguments.scratch / name).resolve()}:/phiforge/{name}"]
    run.append(arguments.image)
    found = json.loads(_output([*run, "python", "-c", PROBE]))
    print(found, flush=True)
    assert found["user"] == USER and found["network"] == ["lo"] and not found["compilers"], found
    assert set(found["writable"]) == {"/tmp", *(f"/phiforge/{name}" for name in FOLDERS)}, found
    started = time.monotonic()
    command = f"snakemake --cores {arguments.cores} all; code=$?; times; exit $code"
    done = subprocess.run(
        [*run, "bash", "-c", command], stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.monotonic() - started
    (arguments.scratch / "RUN.txt").write_text(done.stdout)
    assert done.returncode == 0, done.stdout[-3000:]
    size = _output(["podman", "image", "inspect", "--format", "{{.Size}}", arguments.image])
    result = {
        "machine": facts(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "found": found,
        "image_bytes": int(size),
        "podman": " ".join(LIMITS),
        "seconds": round(seconds),
        "cpu_seconds": _cpu_seconds(done.stdout),
        **_released(arguments.scratch / "artifacts"),
    }
    RESULT.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2, sort_keys=True))


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _cpu_seconds(said: str) -> int:
    """Of bash's ``times``: its last line is the children's, user and system."""
    numbers = re.findall(r"(\d+)m([\d.]+)s", said)[-2:]
    return round(sum(int(minutes) * 60 + float(seconds) for minutes, seconds in numbers))


def _released(artifacts: Path) -> dict[str, Any]:
    """Which releases stand and verify, and whether their bytes are those of every other machine."""
    expected = {name: digest for digest, name in map(str.split, PAYLOADS.read_text().splitlines())}
    releases = sorted(path.parent for path in artifacts.glob("release/*/[!.]*/MANIFEST.json"))
    same = []
    for release in releases:
        verification = verify(release, Trust())
        assert not verification.refused, (release, verification.findings)
        for line in (release / "SHA256SUMS").read_text().splitlines():
            if known := expected.get(f"{release.name}/{line[66:]}"):  # MANIFEST.json has none
                same.append(known == line[:64])
    records = [artifacts / f"build/phi3-tiny/{release.name}/BUILD.json" for release in releases]
    projects = [read_record(record)["project"] for record in records]
    (project,) = {(project["commit"], project["clean"]) for project in projects}
    return {
        "commit": project[0],
        "clean": project[1],
        "releases": [release.name for release in releases],
        "payload_files": len(same),
        "payload_files_as_recorded": sum(same),
    }


if __name__ == "__main__":
    main()
