"""Print the table of a run: variant, size, verdict per row, and what stable still needs."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.record import RecordError, read_record
from phiforge.artifact.tree import sha256_file
from phiforge.receipts.policy import is_promoted
from phiforge.receipts.receipt_files import receipts_in
from phiforge.release.card import readable_size
from phiforge.release.versions import RELEASE, versions_of
from phiforge.settings.command_line import add_configuration, configuration, split_name
from phiforge.settings.plan import plan
from phiforge.settings.settings import load

_STYLES = {"passed": "green", "compiled": "cyan", "failed": "bold red", "blocked": "yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "variants", nargs="*", metavar="MODEL/VARIANT", help="default: all that are configured"
    )
    parser.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> None:
    pairs = [split_name(name) for name in arguments.variants]
    report(pairs or plan(load(configuration(arguments))).checks, arguments.root)


def report(pairs: Iterable[tuple[str, str]], root: Path) -> None:
    """Print one row for each (model, variant), from the records below ``root``."""
    table = Table(title="phiforge", title_justify="left")
    for heading in ("model", "variant", "size", "receipts", "release", "missing for stable"):
        table.add_column(heading, overflow="fold")
    remedies: dict[str, str] = {}
    for model, variant in pairs:
        gate = _read(root / "gates" / model / f"{variant}.json")
        receipts = _receipts(root / "checks" / model / variant, gate)
        blocked = _blocked_build(root / "build" / model / variant)
        if blocked is not None:
            remedies[variant] = f"{blocked['reason']}. {blocked['remedy']}"
        for receipt in receipts if blocked is None else []:
            if receipt["verdict"] == "blocked":
                remedies[receipt["device"]] = f"{receipt['reason']}. {receipt.get('remedy', '')}"
        table.add_row(
            model,
            variant,
            "blocked" if blocked else _size(root / "build" / model / variant / "payload"),
            _verdicts(receipts),
            _release(root, model, variant),
            ", ".join(_missing_for_stable(gate, receipts)) or "-",
        )
    console = Console()
    # In a log there is no terminal to fit in; wide enough that no name is folded.
    Console(width=max(console.width, 132)).print(table)
    for name, remedy in sorted(remedies.items()):
        console.print(f"{name}: {remedy}", soft_wrap=True, highlight=False)


def _blocked_build(folder: Path) -> dict[str, str] | None:
    """Why the variant was not made here; None: it was, or nothing is known of it."""
    blocked: dict[str, str] | None = _read(folder / "BUILD.json").get("blocked")
    return blocked


def _read(path: Path) -> dict[str, Any]:
    """Read a record; one that is missing or damaged says nothing."""
    try:
        return read_record(path)
    except RecordError:
        return {}


def _receipts(folder: Path, gate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Read a variant's receipts, without those of rows that it had before the gate judged it."""
    found = (_read(path) for path in receipts_in(folder))
    known = gate.get("receipts")
    return [one for one in found if one and (known is None or one["device"] in known)]


def _verdicts(receipts: Iterable[dict[str, Any]]) -> Text:
    text = Text()
    for receipt in receipts:
        if text:
            text.append("\n")
        verdict = receipt["verdict"]
        text.append(f"{receipt['device']} ")
        text.append(verdict, style=_STYLES.get(verdict, ""))
    return text or Text("not checked", style="bold red")


def _missing_for_stable(gate: Mapping[str, Any], receipts: Iterable[dict[str, Any]]) -> list[str]:
    """What the gate found missing; not judged: device rows that no lasting key says have passed."""
    if "missing_for_stable" in gate:
        return list(gate["missing_for_stable"])
    return [
        receipt["device"]
        for receipt in receipts
        if receipt["kind"] == "device"
        and (receipt["verdict"] != "passed" or receipt["signer"].get("ephemeral", True))
    ]


def _size(payload: Path) -> str:
    if not payload.is_dir():
        return "not built"
    return readable_size(sum(p.stat().st_size for p in payload.rglob("*") if p.is_file()))


def _release(root: Path, model: str, variant: str) -> str:
    folder = root / "release" / model / variant
    build = root / "build" / model / variant / "BUILD.json"
    if not (folder / MANIFEST).is_file():
        return "none"
    stable = is_promoted(folder)
    version = read_record(folder / RELEASE)["version"]
    if versions_of(folder.parent, variant)[version]["revoked"] is not None:
        return "revoked"
    verdict = root / "gates" / model / f"{variant}.json"
    if not _judged(verdict, build, root / "checks" / model / variant):
        return "an older stable one" if stable else "an older one"
    return "stable" if stable else "candidate"


def _receipt_of(row: str, gate: Mapping[str, Any], checks: Path) -> Path:
    base = gate["policy"]["rows"][row]["base"]
    return (checks.with_name(base["variant"]) if base else checks) / f"{row}.json"


def _judged(verdict: Path, build: Path, checks: Path) -> bool:
    """Whether the gate let these very receipts of this build through."""
    try:
        gate = read_record(verdict)
        return bool(
            gate["artifact_sha256"] == read_record(build)["artifact_sha256"]
            and all(
                sha256_file(_receipt_of(row, gate, checks)) == receipt["sha256"]
                for row, receipt in gate["receipts"].items()
            )
        )
    except (RecordError, OSError, LookupError):
        return False
