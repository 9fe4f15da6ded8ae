"""Describe what a job has made, and hold what an entry has against the job."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST, read_checksums
from phiforge.artifact.origin import origin_path
from phiforge.artifact.record import canonical, read_record, write_record
from phiforge.artifact.tree import files_under, make_read_only, sha256_file
from phiforge.cache import CacheRefusal
from phiforge.cache.entry import Believed
from phiforge.cache.key import Job, Predict, pinned, source_record
from phiforge.cache.work import BUILD, REFERENCE, Work
from phiforge.jobs import Check, Convert
from phiforge.receipts.signed_receipt import read_signed
from phiforge.trust.document import parse_json
from phiforge.trust.keys import PublicKey, read_public
from validators.predictions import RECORD as PREDICTED
from validators.predictions import are_kept

TREE, SMALL = "tree/", "record/"

Records = list[tuple[Path, str]]


@dataclass(frozen=True)
class Made:
    """What a job has made.

    Attributes:
        result: see `phiforge.cache.entry.Entry`.
        files: name in the entry to file and SHA-256.
    """

    result: str
    files: Mapping[str, tuple[Path, str]]


def describe(work: Work, job: Job) -> Made:
    """Describe what stands where the job puts it.

    Raises:
        CacheRefusal: ``other-toolchain``: it was made with other tools than the locks have.
    """
    records = {f"{SMALL}{path.name}": (path, sha256_file(path)) for path in work.records}
    if isinstance(job, Convert) and work.tree:
        build = read_record(work.records[0])
        _refuse_other_tools(build["toolchain"], job)
        listed = {**read_checksums(work.tree), CHECKSUMS: build["artifact_sha256"]}
        tree = {f"{TREE}{name}": (work.tree / name, digest) for name, digest in listed.items()}
        return Made(build["artifact_sha256"], {**tree, **records})
    if work.tree:
        name, result = _record_of(job)
        record = read_record(work.tree / name)
        _refuse_other_tools(record["toolchain"], job)
        names = [name for name in files_under(work.tree) if name.suffix != ".cached"]
        tree = {
            f"{TREE}{name}": (work.tree / name, sha256_file(work.tree / name)) for name in names
        }
        return Made(result(record), tree)
    if isinstance(job, Check):
        receipt = read_signed(work.options.receipt)
        _refuse_other_tools(receipt.toolchain, job)
        return Made(receipt.verdict, records)
    return Made(_placed(work.records[0].read_text("utf-8")), records)


def accept(
    work: Work,
    job: Job,
    scratch: Path | None,
    small: Mapping[str, bytes],
    entry: Believed,
    keys: Sequence[PublicKey],
) -> Records:
    """Return the records to write, in this order, once ``scratch`` is in its place.

    Args:
        scratch: the entry's tree, every file of which has the digest that was signed.
        small: the entry's other files by name, likewise.
        keys: that count.

    Raises:
        CacheRefusal: the entry is not what this job would have made.
        PhiforgeError: nor is a part of it, by its own reader.
    """
    origin = {"key": entry.entry.key, "keyid": entry.keyid, "builder": entry.entry.builder}
    if isinstance(job, Convert) and scratch:
        build = _build(work, job, scratch, small, entry)
        make_read_only(scratch)
        return [(work.records[0], canonical({**build, "cache": origin}))]
    if scratch:
        if isinstance(job, Predict):
            _expect("what it follows from, or its scores,", True, are_kept(scratch, job.basis))
        else:
            from validators.reference_tree import load_reference

            load_reference(scratch)
        name, result = _record_of(job)
        record = read_record(scratch / name)
        _refuse_other_tools(record["toolchain"], job)
        _expect("the result that is signed", entry.entry.result, result(record))
        digest = sha256_file(scratch / name)
        write_record(origin_path(scratch / name), {**origin, "sha256": digest})
        return []
    if isinstance(job, Check):
        return _receipt(work, job, small, entry, keys, origin)
    file, facts_file = work.records
    text = small[file.name].decode()
    _expect("its matrices", entry.entry.result, _placed(text))
    facts = {**parse_json(small[facts_file.name], facts_file.name), "placement": str(file)}
    return [(file, text), (facts_file, canonical({**facts, "cache": origin}))]


def _build(
    work: Work, job: Convert, scratch: Path, small: Mapping[str, bytes], entry: Believed
) -> dict[str, Any]:
    build = parse_json(small[BUILD], BUILD)
    artifact = sha256_file(scratch / CHECKSUMS)
    listed = {f"{TREE}{name}": digest for name, digest in read_checksums(scratch).items()}
    tree = {name: one for name, one in entry.files.items() if name.startswith(TREE)}
    _expect("its payload", {**listed, f"{TREE}{CHECKSUMS}": artifact}, tree)
    _expect("the artifact that is signed", artifact, entry.entry.result)
    manifest = read_record(scratch / MANIFEST)
    facts = {name: value for name, value in manifest.items() if name != "files"}
    said = {name: value for name, value in build.items() if name != "project"}
    _expect(BUILD, {**facts, "artifact_sha256": artifact}, said)
    _expect("its name", [job.model, job.variant], [build["model"], build["variant"]])
    _expect("its source", read_record(source_record(work)), build["source"])
    base = None if work.options.base is None else read_record(work.options.base)["artifact_sha256"]
    _expect("its base", base, build.get("derived_from", {}).get("artifact_sha256"))
    _refuse_other_tools(build["toolchain"], job)
    return build


def _receipt(
    work: Work,
    job: Check,
    small: Mapping[str, bytes],
    entry: Believed,
    keys: Sequence[PublicKey],
    origin: Mapping[str, Any],
) -> Records:
    envelope, path = work.records
    # numpy and what else reads a reference take longer to import than a build to be taken
    from phiforge.remote.kit import expectations
    from phiforge.remote.receipts import open_expected
    from validators.check import CheckFiles

    row_key = work.options.key
    receipt = open_expected(
        small[path.name],
        small[envelope.name],
        # What the gate asks of the row's receipt, it asks of one from elsewhere too.
        keys=[key for key in keys if row_key is None or key == read_public(row_key)],
        expects=expectations(job, CheckFiles.of(work.options)),
        name=path.name,
        source=f"the cached receipt of {job.model}/{job.variant}/{job.row.name}",
    )
    refuse_verdict(receipt.verdict)
    _expect("its verdict", entry.entry.result, receipt.verdict)
    _refuse_other_tools(receipt.toolchain, job)
    note = {**origin, "sha256": hashlib.sha256(small[path.name]).hexdigest()}
    return [
        (envelope, small[envelope.name].decode()),
        (origin_path(path), canonical(note)),
        (path, small[path.name].decode()),
    ]


def refuse_verdict(verdict: str) -> None:
    """A failure is found again where it matters: what another machine lacked is no verdict here."""
    if verdict not in ("passed", "compiled"):
        raise CacheRefusal("not-passed", f"the receipt says {verdict}")


def _refuse_other_tools(toolchain: Mapping[str, str], job: Job) -> None:
    known = pinned(job)
    for name, version in sorted(toolchain.items()):
        if version not in known.get(name, {version}):
            locked = " or ".join(sorted(known[name]))
            what = f"made with {name} {version}, and the lock has {locked}"
            raise CacheRefusal("other-toolchain", what)


def _expect(what: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise CacheRefusal("other-contents", f"{what} is not what it must be")


def _record_of(job: Job) -> tuple[str, Callable[[Mapping[str, Any]], str]]:
    """Name the record in a job's tree, and what of it is the same whoever makes it."""
    return (PREDICTED, _basis) if isinstance(job, Predict) else (REFERENCE, _answers)


def _basis(predictions: Mapping[str, Any]) -> str:
    """Digest what they follow from: their last digits differ between processors."""
    return hashlib.sha256(canonical(predictions["follow_from"]).encode()).hexdigest()


def _answers(reference: Mapping[str, Any]) -> str:
    """Digest what is the same on every machine: tokens, and the answers to them."""
    return hashlib.sha256(canonical(reference["prompts"]).encode()).hexdigest()


def _placed(text: str) -> str:
    """Digest which forms matrices get; costs differ in their last digits between processors."""
    matrices = yaml.safe_load(text)["matrices"]
    chosen = {name: one["forms"] for name, one in matrices.items()}
    return hashlib.sha256(canonical(chosen).encode()).hexdigest()
