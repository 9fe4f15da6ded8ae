"""A model's index: what is released, how good and how fast it is, and which to choose where.

All of it is read from the releases below ``artifacts/release/<model>``, and from what Snakemake
noted of their conversions: nothing is measured here.
"""

import argparse
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.record import read_record, write_record
from phiforge.errors import PhiforgeError
from phiforge.jobs import Index, read_job
from phiforge.receipts.coverage import device_states
from phiforge.receipts.policy import is_promoted
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.receipt_files import receipts_in
from phiforge.release.comparison import diverging, scored_on, short_digest
from phiforge.release.page import PAGE, write_page
from phiforge.release.provenance import is_taken
from phiforge.release.ranking import RULE, Build, ranked
from phiforge.release.tracking import link_record
from phiforge.release.versions import RELEASE, changes_of, versions_of
from phiforge.settings.hardware import load_hardware
from phiforge.trust import TrustError
from phiforge.trust.document import from_base64, parse_json, parse_record

INDEX = "index.json"
CARD = "README.md"
SCHEMA = "phiforge/index/3"


class ReleaseIndexError(PhiforgeError):
    """A release lacks what the index says of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule index writes it")
    parser.add_argument("--hardware", required=True, type=Path, help="config/hardware.yaml")
    parser.add_argument("--into", required=True, type=Path, help="artifacts/release/<model>")
    parser.add_argument(
        "--benchmarks", required=True, type=Path, help="what Snakemake noted of conversions"
    )
    parser.add_argument("--record", type=Path, help="link to make to the index")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Index, arguments.job)
    write_index(job, arguments.hardware, arguments.into, arguments.benchmarks)
    if arguments.record is not None:
        link_record(arguments.into / INDEX, arguments.record)


def write_index(job: Index, hardware: Path, folder: Path, benchmarks: Path) -> None:
    """Write ``index.json`` and the page ``index.html`` into a model's folder.

    Args:
        benchmarks: folder of ``<model>.<variant>.tsv``, Snakemake's notes of conversions.

    Raises:
        ReleaseIndexError: a release's card has no snippet, or a receipt is not of its type.
        ConfigurationError: the hardware file has a mistake.
    """
    rows = load_hardware(hardware)
    found = sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))
    variants = [_variant(release, benchmarks) for release in found]
    released = {one["variant"] for one in variants}
    index = {
        "schema": SCHEMA,
        "model": folder.name,
        "title": job.title,
        "license": job.license,
        "variants": variants,
        # What was released once and cannot be built now is still released.
        "blocked": [
            {"variant": variant, **asdict(blocked)}
            for variant, blocked in job.blocked.items()
            if variant not in released
        ],
        "rule": RULE,
        "hardware": [_choice(name, row.plain(), variants) for name, row in rows.items()],
    }
    write_page(index, folder / PAGE)
    write_record(folder / INDEX, index)


def _variant(release: Path, benchmarks: Path) -> dict[str, Any]:
    manifest, record = read_record(release / MANIFEST), read_record(release / RELEASE)
    payload = [*(file["path"] for file in manifest["files"]), MANIFEST, CHECKSUMS]
    versions = versions_of(release.parent, release.name)
    changes = changes_of(release.parent, release.name)
    receipts = _receipts(release)
    promoted = is_promoted(release)
    return {
        "variant": release.name,
        "format": manifest["format"],
        "precision": manifest["precision"],
        "version": record["version"],
        "channel": "stable" if promoted else "candidate",
        "revoked": versions.get(record["version"], {}).get("revoked"),
        "artifact_sha256": record["artifact_sha256"],
        "signer": record["signer"],
        "size": sum((release / name).stat().st_size for name in payload),
        "build": _conversion(release, benchmarks),
        "devices": {row: asdict(known) for row, known in device_states(receipts).items()},
        "receipts": [_receipt(receipt, release) for receipt in receipts],
        "missing_for_stable": []
        if promoted
        else read_record(release / "evidence/gate.json")["missing_for_stable"],
        "versions": [
            {"version": version, "after": None, "changes": [], **changes.get(version, {}), **entry}
            for version, entry in sorted(versions.items(), key=_by_number, reverse=True)
        ],
        "load": snippet(release / CARD),
    }


def _by_number(entry: tuple[str, Any]) -> tuple[tuple[int, str], ...]:
    return tuple((int(f"0{part}") if part.isdigit() else 0, part) for part in entry[0].split("."))


def _conversion(release: Path, benchmarks: Path) -> dict[str, float] | None:
    """What Snakemake noted of a conversion; None: it was made elsewhere, or too long ago.

    What came from a shared cache was not converted in the time that was noted. The columns are
    those of https://snakemake.readthedocs.io, "Benchmark Rules".
    """
    noted = benchmarks / f"{release.parent.name}.{release.name}.tsv"
    signed = release / "evidence/provenance.dsse.json"
    statement = from_base64(read_record(signed)["payload"], str(signed))
    if is_taken(parse_json(statement, str(signed))):
        return None
    try:
        (row,) = csv.DictReader(noted.read_text("utf-8").splitlines(), delimiter="\t")
        return {"seconds": float(row["s"]), "memory_mb": float(row["max_rss"]) * 1.048576}
    except (OSError, ValueError, KeyError):
        return None


def _receipts(release: Path) -> list[Receipt]:
    files = receipts_in(release / "evidence/receipts")
    try:
        return [parse_record(Receipt, path.read_bytes(), str(path)) for path in files]
    except TrustError as error:
        raise ReleaseIndexError(
            f"a receipt of this release is not of today's form: {error.what}",
            where=error.where,
            remedy="release the variant again, or move its folder away",
        ) from None


def _receipt(receipt: Receipt, release: Path) -> dict[str, Any]:
    passed, compiled = receipt.verdict == "passed", receipt.compiled
    scored = passed and receipt.metrics is not None
    whole = asdict(receipt)
    measures = receipt.performance if passed else None
    return {
        "row": receipt.device,
        "variant": receipt.variant,
        "kind": receipt.kind,
        "stands_for": list(receipt.stands_for),
        "verdict": receipt.verdict,
        "reason": receipt.reason,
        "fidelity": whole["metrics"] if scored else None,
        "answers": diverging(whole["golden"], release) if scored else None,
        "compared_on": short_digest(receipt.reference_sha256, scored_on(whole)) if scored else None,
        "left_out": [one.id for one in receipt.golden if one.not_run is not None],
        "speed": measures
        and {
            "compared_on": short_digest(
                [receipt.device, measures.runs, asdict(measures.prompt_tokens)],
                [measures.numerics, measures.threads],
            ),
            "first_token_ms": measures.first_token_ms and measures.first_token_ms.p50,
            "tokens_per_s": measures.tokens_per_s and measures.tokens_per_s.p50,
            "prompts": measures.runs,
            "threads": measures.threads,
            "numerics": measures.numerics,
        },
        "compiled": compiled
        and {key: getattr(compiled, key) for key in ("compiler", "platform", "interface")},
        "toolchain": dict(receipt.toolchain) if passed else {},
        "signer": receipt.signer and receipt.signer.keyid,
    }


def snippet(card: Path) -> str:
    """The Python on a card that loads the release.

    Raises:
        ReleaseIndexError: there is none.
    """
    match = re.search(r"^```python\n(.*?)^```$", card.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    if match is None:
        raise ReleaseIndexError("the card has no loading snippet", where=card)
    return match[1]


def _choice(name: str, row: Mapping[str, Any], variants: Sequence[Any]) -> dict[str, Any]:
    usable = {one["variant"]: one for one in variants if one["revoked"] is None}
    passed = {
        variant: {
            receipt["row"]: receipt
            for receipt in usable[variant]["receipts"]
            if receipt["verdict"] == "passed"
        }
        for variant in row["choose"]
        if variant in usable
    }
    told = {variant: _closest(rows, row["devices"]) for variant, rows in passed.items()}
    choose = ranked(
        _build(usable[variant], receipt, row["devices"]) for variant, receipt in told.items()
    )
    checked = told[choose[0]] if choose else None
    return {
        "hardware": name,
        "title": row["title"],
        "choose": list(choose),
        # Which receipt the place of each follows from.
        "told_by": {variant: told[variant] and told[variant]["row"] for variant in choose},
        "when": row["when"],
        "proven": {
            variant: rows
            for variant in choose
            if (rows := [name for name in row["devices"] if name in passed[variant]])
        },
        "system": row["system"],
        "driver": row["driver"],
        "runtime": row["runtime"],
        "checked_with": _runtime(checked["toolchain"]) if checked else {},
    }


def _build(one: Mapping[str, Any], receipt: Any, devices: Sequence[str]) -> Build:
    if receipt is None or receipt["fidelity"] is None:
        return Build(one["variant"], one["size"], None, None, None)
    there = receipt["speed"] if receipt["row"] in devices else None
    return Build(
        one["variant"],
        one["size"],
        receipt["compared_on"],
        receipt["fidelity"]["top1_agreement"],
        receipt["fidelity"]["mean_kl"],
        there and there["compared_on"],
        there and there["tokens_per_s"],
    )


def _closest(passed: Mapping[str, Any], devices: Sequence[str]) -> Any:
    """The receipt that says most about the devices: one of theirs, a stand-in's, or any."""
    own = [one for one in passed.values() if one["row"] in devices]
    standins = [one for one in passed.values() if {*one["stands_for"]} & {*devices}]
    return next(iter([*own, *standins, *passed.values()]), None)


def _runtime(toolchain: Mapping[str, str]) -> dict[str, str]:
    """The packages that load a payload, without what only judges it."""
    return {
        name: version
        for name, version in toolchain.items()
        if name.startswith(("openvino", "optimum", "onnxruntime", "intel"))
    }
