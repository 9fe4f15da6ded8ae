"""Convert a model to a variant: from a verified source, or an earlier variant, to a sealed payload.

The payload appears whole or not at all; BUILD.json is written last. Where the job is blocked,
nothing is converted and BUILD.json says why. A payload of an earlier run then stays on the disk,
but no record names it any more: nothing checks, gates or releases it, and the next conversion
replaces it. A release that was made of it stays as it is.
"""

import argparse
import importlib
import resource
import subprocess
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from converters.contract import BuildRecord, ConvertError
from converters.source_files import refuse_other_source
from converters.streaming_hasher import StreamingHasher
from phiforge.artifact.manifest import write_manifest
from phiforge.artifact.record import read_record, write_record
from phiforge.artifact.tree import fresh_tree, make_read_only
from phiforge.checkout import ROOT
from phiforge.jobs import Convert, read_job
from phiforge.memory import refuse_too_little_memory
from phiforge.offline import go_offline
from phiforge.project import project_state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule convert writes it")
    parser.add_argument("--source", required=True, type=Path, help="SOURCE.json of the source")
    parser.add_argument("--base", nargs="?", type=Path, help="BUILD.json of the 'from' variant")
    parser.add_argument("--memory-mb", type=int, default=0, help="memory the job needs")
    parser.add_argument("--into", required=True, type=Path, help="folder of the build")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Convert, arguments.job)
    if job.blocked is None:
        refuse_too_little_memory(f"converting {job.model} to {job.variant}", arguments.memory_mb)
        convert(job, arguments.source, arguments.base, arguments.into)
        return
    blocked = {"model": job.model, "variant": job.variant, "blocked": asdict(job.blocked)}
    write_record(arguments.into / "BUILD.json", blocked)
    print(f"blocked: {job.blocked.reason}. Remedy: {job.blocked.remedy}")


def convert(job: Convert, source_path: Path, base_path: Path | None, into: Path) -> None:
    """Write the payload and BUILD.json below ``into``.

    Args:
        source_path: SOURCE.json; its tree lies beside it.
        base_path: BUILD.json of the variant that this one is derived from.

    Raises:
        ConvertError: the conversion cannot be done, or the source has no licence.
    """
    go_offline()
    project = project_state()
    source_record = read_record(source_path)
    source = source_path.parent / "files"
    base_record = None if base_path is None else read_record(base_path)
    base = None if base_path is None else base_path.parent / "payload"
    if base_record is not None:
        refuse_other_source(base_record, source_record)
    converter = importlib.import_module(f"converters.{job.recipe.converter}")
    tools = {"tools": job.tools} if job.tools else {}
    with fresh_tree(into / "payload") as payload:
        print(f"converting {job.model} to {job.variant}", flush=True)
        denied = _denied_strings(payload, source)
        with StreamingHasher(payload, denied) as hasher:
            record: BuildRecord = converter.convert(
                source, payload, options=job.recipe.options, base=base, **tools
            )
            digests = hasher.digests()
        _add_licence(source, payload)
        facts = _facts(job, source_record, base_record, record)
        artifact_sha256 = write_manifest(payload, facts, denied, digests)
        make_read_only(payload)
    made = {"artifact_sha256": artifact_sha256, "project": project}
    write_record(into / "BUILD.json", {**facts, **made})
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)  # a converter may start its own
    peak_kib = max(resource.getrusage(who).ru_maxrss for who in processes)
    peak_mb = peak_kib * 1024 // 1_000_000
    print(f"built {job.model} {job.variant}: {artifact_sha256}")
    print(f"peak resident memory, mapped files included: {peak_mb} MB", flush=True)


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
    job: Convert,
    source_record: Mapping[str, Any],
    base_record: Mapping[str, Any] | None,
    record: BuildRecord,
) -> dict[str, Any]:
    facts = {
        "schema": "phiforge/manifest/1",
        "model": job.model,
        "variant": job.variant,
        "title": job.title,
        "license": job.license,
        "format": job.recipe.format,
        "precision": job.recipe.precision,
        "converter": job.recipe.converter,
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


def _denied_strings(payload: Path, source: Path) -> list[str]:
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
