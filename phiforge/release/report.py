"""Print the table of a run: variant, size, verdict per row, and what stable still needs."""

import argparse
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phiforge.artifact.manifest import MANIFEST
from phiforge.artifact.record import RecordError, read_record
from phiforge.artifact.tree import sha256_file
from phiforge.errors import printable
from phiforge.receipts.policy import is_promoted
from phiforge.receipts.receipt_files import receipts_in
from phiforge.release.card import readable_size
from phiforge.release.versions import RELEASE, versions_of
from phiforge.settings.command_line import add_configuration, configuration, split_name
from phiforge.settings.plan import plan
from phiforge.settings.settings import load

_WIDTH = 80
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
    """Print one row for each (model, variant) from the records below ``root``; then what is wrong.

    Nothing is wider than 80 columns, but for a name or a path that is longer by itself.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("variant", "size", "release", "receipts"):
        table.add_column(heading, overflow="fold")
    lines: dict[str, None] = {}
    missing: dict[str, list[str]] = {}
    titled = ""
    for model, variant in pairs:
        if model != titled:
            lines.update(dict.fromkeys(_errors(root / "logs", f"{model}.log")))
            table.add_row(Text(model, style="bold"))
            titled = model
        gate = _read(root / "gates" / model / f"{variant}.json")
        receipts = _receipts(root / "checks" / model / variant, gate)
        blocked = _blocked_build(root / "build" / model / variant)
        size = "blocked" if blocked else _size(root / "build" / model / variant / "payload")
        table.add_row(variant, size, _release(root, model, variant), _verdicts(receipts))
        lines.update(dict.fromkeys(_errors(root / "logs", f"{model}.{variant}.log")))
        lines.update(dict.fromkeys(_errors(root / "logs", f"{model}.{variant}.*.log")))
        if blocked is not None:
            lines[f"{variant}: {blocked['reason']}. {blocked['remedy']}"] = None
        for receipt in receipts if blocked is None else []:
            if receipt["verdict"] == "blocked":
                lines[f"{receipt['device']}: {receipt['reason']}. {receipt.get('remedy', '')}"] = (
                    None
                )
            if receipt["verdict"] == "failed":
                log = root / "logs/check" / f"{model}.{variant}.{receipt['device']}.log"
                lines[f"{variant} on {receipt['device']}: {receipt['reason']} ({log})"] = None
        for row in _missing_for_stable(gate, receipts):
            missing.setdefault(row, []).append(variant)
    Console(width=_WIDTH).print(table)
    for line in lines:
        _tell(line)
    if missing:
        _tell(
            "For stable, each device must have passed, signed by the key that its row names; "
            "'snakemake --cores 4 stable' says how to get there. Missing:"
        )
        for row, variants in missing.items():
            _tell(f"  {row}: {', '.join(variants)}")


def _tell(line: str) -> None:
    lines = textwrap.wrap(
        line, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    print("\n".join(lines))


def _errors(logs: Path, pattern: str) -> Iterator[str]:
    """Yield the error in which each log ends; the next run of its job writes the log anew."""
    for log in sorted(logs.glob(f"*/{pattern}")):
        with suppress(OSError):
            last = log.read_text("utf-8", "replace").rstrip().rpartition("\n")[2]
            if last.startswith("error: "):
                yield f"{log.parent.name} {log.stem.replace('.', ' ')}: {printable(last)} ({log})"


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
        return f"revoked {version}"
    verdict = root / "gates" / model / f"{variant}.json"
    if not _judged(verdict, build, root / "checks" / model / variant):
        return f"{'old, stable' if stable else 'old'} {version}"
    return f"{'stable' if stable else 'candidate'} {version}"


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
