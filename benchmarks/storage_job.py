"""Run each job of Snakemake's executor cluster-generic in an empty folder of its own.

    python benchmarks/storage_job.py submit FOLDER TOOL … -- SCRIPT
    python benchmarks/storage_job.py status JOB

What a node has installed beside Python (TOOL …) is linked into the job's folder. The job's name is
its access key, so that the storage can tell whose request it answers.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path


def submit(folder: Path, tools: list[Path], script: Path) -> Path:
    """Start the script, and return the job's folder."""
    text = script.read_text(encoding="utf-8")
    properties = json.loads(re.search(r"^# properties = (.*)$", text, re.MULTILINE)[1])  # type: ignore[index]
    name = "-".join([properties["rule"], *properties["wildcards"].values()])
    job = folder / name
    for attempt in range(2, 100):
        if not job.exists():
            break
        job = folder / f"{name}-{attempt}"
    job.mkdir(parents=True)
    for tool in tools:
        (job / tool.name).symlink_to(tool)
    own = job.with_suffix(".sh")
    own.write_text(text, encoding="utf-8")
    subprocess.Popen(
        ["sh", "-c", 'sh "$1" > "$2.log" 2>&1; echo $? > "$2.code"', "job", own, job],
        cwd=job,
        env={**os.environ, "AWS_ACCESS_KEY_ID": job.name},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is Snakemake's to take
    )
    return job


def status(job: Path) -> str:
    code = job.parent / f"{job.name}.code"
    if not code.is_file() or not code.read_text():
        return "running"
    return "success" if code.read_text().strip() == "0" else "failed"


if __name__ == "__main__":
    command, *words = sys.argv[1:]
    if command == "status":
        print(status(Path(words[0])))
    else:
        folder, *tools, _, script = words
        print(submit(Path(folder), [Path(tool) for tool in tools], Path(script)))
