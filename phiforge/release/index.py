"""A model's index: what is released, how good and how fast it is, and which to choose where.

All of it is read from the releases below ``artifacts/release/<model>``: nothing is measured here.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from phiforge.artifact.checksums import CHECKSUMS
from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.record import read_record, write_record, write_text
from phiforge.errors import PhiforgeError
from phiforge.jobs import Index, read_job
from phiforge.receipts.coverage import DeviceState, device_states
from phiforge.receipts.policy import is_promoted
from phiforge.receipts.receipt import Receipt
from phiforge.receipts.receipt_files import receipts_in
from phiforge.release.card import readable_size
from phiforge.release.templates import fill_in
from phiforge.release.tracking import link_record
from phiforge.release.versions import RELEASE, versions_of
from phiforge.settings.hardware import load_hardware
from phiforge.trust import TrustError
from phiforge.trust.document import parse_record

INDEX = "index.json"
README = "README.md"
SCHEMA = "phiforge/index/2"


class ReleaseIndexError(PhiforgeError):
    """A release lacks what the index says of it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule index writes it")
    parser.add_argument("--hardware", required=True, type=Path, help="config/hardware.yaml")
    parser.add_argument("--into", required=True, type=Path, help="artifacts/release/<model>")
    parser.add_argument("--record", type=Path, help="link to make to the index")


def run(arguments: argparse.Namespace) -> None:
    write_index(read_job(Index, arguments.job), arguments.hardware, arguments.into)
    if arguments.record is not None:
        link_record(arguments.into / INDEX, arguments.record)


def write_index(job: Index, hardware: Path, folder: Path) -> None:
    """Write ``index.json`` and ``README.md`` into a model's folder.

    Raises:
        ReleaseIndexError: a release's card has no snippet, or a receipt is not of its type.
        ConfigurationError: the hardware file has a mistake.
    """
    rows = load_hardware(hardware)
    found = sorted(path.parent for path in folder.glob(f"[!.]*/{MANIFEST}"))
    variants = [_variant(release) for release in found]
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
        "hardware": [_choice(name, row.plain(), variants) for name, row in rows.items()],
    }
    write_text(folder / README, render(index))
    write_record(folder / INDEX, index)


def _variant(release: Path) -> dict[str, Any]:
    manifest, record = read_record(release / MANIFEST), read_record(release / RELEASE)
    payload = [*(file["path"] for file in manifest["files"]), MANIFEST, CHECKSUMS]
    known = versions_of(release.parent, release.name).get(record["version"], {})
    receipts = _receipts(release)
    return {
        "variant": release.name,
        "format": manifest["format"],
        "precision": manifest["precision"],
        "version": record["version"],
        "channel": "stable" if is_promoted(release) else "candidate",
        "revoked": known.get("revoked"),
        "artifact_sha256": record["artifact_sha256"],
        "size": sum((release / name).stat().st_size for name in payload),
        "devices": {row: asdict(known) for row, known in device_states(receipts).items()},
        "receipts": [_receipt(receipt) for receipt in receipts],
        "load": snippet(release / README),
    }


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


def _receipt(receipt: Receipt) -> dict[str, Any]:
    passed, compiled = receipt.verdict == "passed", receipt.compiled
    measures = receipt.performance if passed else None
    return {
        "row": receipt.device,
        "variant": receipt.variant,
        "kind": receipt.kind,
        "stands_for": list(receipt.stands_for),
        "verdict": receipt.verdict,
        "reason": receipt.reason,
        "fidelity": asdict(receipt.metrics) if passed and receipt.metrics else None,
        "speed": measures
        and {
            "first_token_ms": measures.first_token_ms and measures.first_token_ms.p50,
            "tokens_per_s": measures.tokens_per_s and measures.tokens_per_s.p50,
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
    choose = [variant for variant in row["choose"] if variant in usable]
    passed = {
        variant: {
            receipt["row"]: receipt
            for receipt in usable[variant]["receipts"]
            if receipt["verdict"] == "passed"
        }
        for variant in choose
    }
    checked = _closest(passed[choose[0]], row["devices"]) if choose else None
    return {
        "hardware": name,
        "title": row["title"],
        "choose": choose,
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


def render(index: Mapping[str, Any]) -> str:
    """The index as Markdown."""
    loads: dict[str, list[str]] = {}
    for one in index["variants"]:
        loads.setdefault(one["load"], []).append(one["variant"])
    filters = {"size": readable_size, "brief": _brief}
    devices = sorted({row for one in index["variants"] for row in one["devices"]})
    matrix = {
        one["variant"]: [
            str(DeviceState(**one["devices"][row])) if row in one["devices"] else "-"
            for row in devices
        ]
        for one in index["variants"]
    }
    facts = {"index": index, "loads": loads, "devices": devices, "matrix": matrix}
    return fill_in("index.md.j2", filters, **facts)


def _brief(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
