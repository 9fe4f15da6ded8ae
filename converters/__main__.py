"""``python -m converters``: one conversion, from a verified source to a sealed payload.

The payload appears whole or not at all; ``BUILD.json`` is written last. With ``--blocked`` nothing
is converted and ``BUILD.json`` says why. A payload of an earlier run then stays on the disk, but
no record names it any more: nothing checks it, gates it or releases it, and the next conversion
takes its place. A release that was made of it stands as it is.
"""

import argparse
import importlib
import json
import resource
import subprocess
from pathlib import Path
from typing import Any

import psutil

from converters.contract import BuildRecord, ConvertError
from converters.source_files import refuse_other_source
from converters.streaming_hasher import StreamingHasher
from phiforge.artifact.manifest import seal
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import fresh_tree, make_read_only
from phiforge.checkout import ROOT
from phiforge.errors import run_command
from phiforge.offline import go_offline
from phiforge.project import project_state


def main() -> None:
    arguments = _parse()
    if arguments.blocked is not None:
        _write_blocked(arguments)
        return
    _refuse_too_little_memory(arguments.memory_mb)
    go_offline()
    project = project_state()
    block = json.loads(arguments.variant)
    source_record = read_record(arguments.source)
    source = arguments.source.parent / "files"
    base_record = read_record(arguments.base) if arguments.base else None
    base = arguments.base.parent / "payload" if arguments.base else None
    if base_record is not None:
        refuse_other_source(base_record, source_record)
    converter = importlib.import_module(f"converters.{block['converter']}")
    into: Path = arguments.into
    with fresh_tree(into / "payload") as payload:
        print(f"converting {arguments.model} to {arguments.name}", flush=True)
        forbidden = _forbidden(payload, source)
        with StreamingHasher(payload, forbidden) as hasher:
            record: BuildRecord = converter.convert(
                source, payload, options=block["options"], base=base, **_tools(arguments)
            )
            digests = hasher.digests()
        _add_licence(source, payload)
        facts = _facts(arguments, block, source_record, base_record, record)
        artifact_sha256 = seal(payload, facts, forbidden, digests)
        make_read_only(payload)
    made = {"artifact_sha256": artifact_sha256, "project": project}
    write_record(into / "BUILD.json", {**facts, **made})
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # a converter may start its own
    peak_kib = max(resource.getrusage(who).ru_maxrss for who in processes)
    peak_mb = peak_kib * 1024 // 1_000_000
    print(f"built {arguments.model} {arguments.name}: {artifact_sha256}")
    print(f"peak resident memory, mapped files included: {peak_mb} MB", flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m converters", description=__doc__)
    parser.add_argument("--model", required=True, help="name of the model")
    parser.add_argument("--name", required=True, help="name of the variant")
    parser.add_argument("--facts", required=True, help="title and license of the model, as JSON")
    parser.add_argument("--variant", required=True, help="the variant's block, as JSON")
    parser.add_argument("--source", required=True, type=Path, help="SOURCE.json of the source")
    parser.add_argument("--base", nargs="?", type=Path, help="BUILD.json of the 'from' variant")
    parser.add_argument("--memory-mb", type=int, default=0, help="memory the job needs")
    parser.add_argument("--tools", default="{}", help="what the configuration names for it, JSON")
    parser.add_argument("--into", required=True, type=Path, help="folder of the build")
    parser.add_argument("--blocked", help="why it cannot be made here; nothing is converted")
    parser.add_argument("--remedy", default="", help="what to do about a blocked variant")
    return parser.parse_args()


def _tools(arguments: argparse.Namespace) -> dict[str, Any]:
    """The ``tools`` argument, for the converters of variants that require something."""
    tools = json.loads(arguments.tools)
    return {"tools": tools} if tools else {}


def _write_blocked(arguments: argparse.Namespace) -> None:
    record = {
        "model": arguments.model,
        "variant": arguments.name,
        "blocked": {"reason": arguments.blocked, "remedy": arguments.remedy},
    }
    write_record(arguments.into / "BUILD.json", record)
    print(f"blocked: {arguments.blocked}. Remedy: {arguments.remedy}")


def _refuse_too_little_memory(needed_mb: int) -> None:
    """Snakemake caps a job's memory at the profile's budget in silence; the machine decides."""
    machine_mb = psutil.virtual_memory().total // 1_000_000
    if needed_mb > machine_mb:
        raise ConvertError(
            "this conversion does not fit this machine",
            expected=f"{needed_mb} MB of memory",
            found=f"{machine_mb} MB",
            remedy="run it on a larger machine, or leave the variant out with --config variants=",
        )


def _add_licence(source: Path, payload: Path) -> None:
    """Every payload carries the model's own licence (and notices) at its top."""
    # LICENSE sorts before LICENSE.txt and the like: the plain name wins.
    licences = sorted(path.name for path in source.glob("LICENSE*"))
    if not licences:
        raise ConvertError(
            "the source has no LICENSE file",
            where=source,
            remedy="add the model's licence text to the source",
        )
    (payload / "LICENSE").write_bytes((source / licences[0]).read_bytes())
    for notice in sorted(source.glob("NOTICE*")):
        (payload / notice.name).write_bytes(notice.read_bytes())


def _facts(
    arguments: argparse.Namespace,
    block: dict[str, Any],
    source_record: dict[str, Any],
    base_record: dict[str, Any] | None,
    record: BuildRecord,
) -> dict[str, Any]:
    facts = {
        "schema": "phiforge/manifest/1",
        "model": arguments.model,
        "variant": arguments.name,
        **json.loads(arguments.facts),
        "format": block["format"],
        "precision": block["precision"],
        "converter": block["converter"],
        "source": source_record,
        "recipe": dict(record.recipe),
        "toolchain": dict(record.toolchain),
        "notes": list(record.notes),
    }
    if base_record is not None:
        facts["derived_from"] = {
            "variant": base_record["variant"],
            "artifact_sha256": base_record["artifact_sha256"],
            "recipe": base_record["recipe"],
            "toolchain": base_record["toolchain"],
        }
    return facts


def _forbidden(payload: Path, source: Path) -> list[str]:
    """Texts that would tell where, or from which commit of ours, a payload was built."""
    # A very short path ("/a") occurs in random weights by chance; a longer one does not.
    paths = {str(path) for path in (payload.resolve(), source.resolve(), ROOT)}
    texts = {path for path in paths if len(path) >= 8}
    head = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    if head.returncode == 0:
        # The model builder stamps the first seven digits of the commit around it.
        texts.add(head.stdout.strip()[:7])
    return sorted(texts)


if __name__ == "__main__":
    run_command(main)
