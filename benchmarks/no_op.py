"""Time a `snakemake --cores 4 all` that has nothing to do, and the same for trivial rules.

    python benchmarks/no_op.py

Runs `all` once in this checkout, and writes a Snakefile with the same rules, output patterns,
wildcards, jobs and files between them, but nothing else: no configuration, no params, no modules as
inputs, `touch` for commands. Both no-ops are then timed in turn. The result goes to no-op.json
beside this file.
"""

import argparse
import csv
import datetime
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import facts

ROOT = Path(__file__).parents[1]
SNAKEMAKE = str(Path(sys.executable).parent / "snakemake")
RUNS = 21  # a virtual machine is noisy: medians of seven lay between 1.11 and 1.43


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    subprocess.run([SNAKEMAKE, "--cores", "4", "all"], cwd=ROOT, check=True)
    edges = between(summary())
    with tempfile.TemporaryDirectory() as folder:
        trivial = Path(folder)
        (trivial / "Snakefile").write_text(snakefile(edges))
        (trivial / "edges.json").write_text(json.dumps(edges))
        for made in {name for inputs in edges.values() for name in inputs} - edges.keys():
            (trivial / made).parent.mkdir(parents=True, exist_ok=True)
            (trivial / made).touch()
        subprocess.run([SNAKEMAKE, "--cores", "4", "all"], cwd=trivial, check=True)
        ours, theirs = [], []
        for _ in range(RUNS):
            ours.append(seconds(ROOT))
            theirs.append(seconds(trivial))
    result = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": facts(),
        "jobs": len(edges) + 1,
        "all_s": ours,
        "trivial_s": theirs,
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 3),
    }
    into = Path(__file__).with_name("no-op.json")
    into.write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    print(json.dumps(result, indent=2))


def seconds(folder: Path) -> float:
    """Time an `all` that has nothing to do, in seconds of wall clock."""
    command = [SNAKEMAKE, "--cores", "4", "all"]
    started = time.monotonic()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    taken = time.monotonic() - started
    if "Nothing to be done" not in done.stdout + done.stderr:
        sys.exit(f"error: {folder}: there was something to do: {done.stderr}")
    return round(taken, 3)


def summary() -> list[dict[str, str]]:
    """List every file that `all` needs, as Snakemake reports it."""
    command = [SNAKEMAKE, "--cores", "4", "all", "--detailed-summary", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    table = done.stdout[done.stdout.index("output_file") :]
    return list(csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE))


def between(table: list[dict[str, str]]) -> dict[str, list[str]]:
    """Map each output file to its inputs in artifacts/."""
    return {
        row["output_file"]: sorted(
            name for name in row["input-file(s)"].split(",") if name.startswith("artifacts/")
        )
        for row in table
    }


def snakefile(edges: dict[str, list[str]]) -> str:
    """Write our rules with their output patterns, and nothing else in them."""
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    lines = [
        "import json",
        "EDGES = json.load(open('edges.json'))",
        "def edges(pattern, wildcards):",
        "    return EDGES[pattern.format(**dict(wildcards.items()))]",
        "rule all:",
        f"    input: {sorted(edges)!r}",
    ]
    known: set[str] = set()
    for block in re.split(r"^(?=rule )", text, flags=re.MULTILINE)[1:]:
        name = block[len("rule ") : block.index(":")]
        outputs = re.search(r"^    output:\n((?:        .*\n)+)", block, flags=re.MULTILINE)
        patterns = re.findall(r'"(artifacts/[^"]+)"', outputs[1]) if outputs else []
        used = [pattern for pattern in patterns if any(matches(pattern, file) for file in edges)]
        if used:
            known.update(file for file in edges for pattern in used if matches(pattern, file))
            lines += [
                f"rule {name}:",
                f"    input: lambda wildcards: edges({used[0]!r}, wildcards)",
                f"    output: {', '.join(map(repr, used))}",
                '    shell: "touch {output}"',
            ]
    if missing := edges.keys() - known:
        sys.exit(f"error: no rule was found for {sorted(missing)}")
    lines += ["wildcard_constraints: model='[^/]+', variant='[^/]+', device='[^/.]+'"]
    return "\n".join(lines) + "\n"


def matches(pattern: str, made: str) -> bool:
    """Tell whether a file matches a pattern whose wildcards have no slash."""
    expression = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(pattern))
    return re.fullmatch(expression, made) is not None


if __name__ == "__main__":
    main()
