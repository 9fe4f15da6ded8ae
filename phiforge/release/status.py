"""Print the table of the last run: variant, size, verdict per row, and what stable still needs."""

import argparse
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from phiforge.release.card import readable_size
from phiforge.release.states import State, States
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
    parser.add_argument(
        "--junit", type=Path, metavar="FILE", help="write the receipts as JUnit XML, for a CI"
    )
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> None:
    pairs = [split_name(name) for name in arguments.variants]
    pairs = pairs or list(plan(load(configuration(arguments))).checks)
    found = status(pairs, arguments.root)
    if arguments.junit is not None:
        from phiforge.release.junit import write_junit

        write_junit(found, arguments.junit)


def status(pairs: Iterable[tuple[str, str]], root: Path) -> States:
    """Print one row for each (model, variant) from the records below ``root``; then what is wrong.

    With several models, what is released as it should be takes one row a model. Nothing is wider
    than 80 columns, but for a name or a path that is longer by itself.
    """
    found = States(pairs, root)
    states = found.variants
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for heading in ("variant", "size", "release", "receipts"):
        table.add_column(heading, overflow="fold")
    for model, variants in states.items():
        good = [one for one in variants if one.is_good] if len(states) > 1 else []
        if good == variants:
            table.add_row(Text(model, style="bold"), *_summary(good))
            continue
        table.add_row(Text(model, style="bold"))
        for one in variants:
            if one not in good:
                table.add_row(one.variant, one.size, one.release, _verdicts(one.receipts))
        if good:
            table.add_row(f"{len(good)} more", *_summary(good))
    Console(width=_WIDTH).print(table)
    every = [one for variants in states.values() for one in variants]
    said = (line for one in every for line in (*one.errors, *one.lines))
    for line in dict.fromkeys([*found.errors, *said]):
        _tell(line)
    _tell_missing(every)
    return found


def _summary(good: Sequence[State]) -> tuple[str, str, Text]:
    """Sum up variants of one model: their size, what is released, what their receipts say."""
    ways = Counter(one.release.partition(" ")[0] for one in good)
    ways["not released"] = ways.pop("none", 0)
    verdicts = Counter(receipt["verdict"] for one in good for receipt in one.receipts)
    said = Text(", ").join(
        Text(f"{verdicts[verdict]} ").append(verdict, style=style)
        for verdict, style in _STYLES.items()
        if verdicts[verdict]
    )
    released = ", ".join(f"{count} {way}" for way, count in ways.items() if count)
    return readable_size(sum(one.payload_bytes for one in good)), released, said


def _tell_missing(states: Iterable[State]) -> None:
    """Say which device rows stable still needs, and for which variants."""
    missing: dict[str, list[State]] = {}
    for one in states:
        for row in one.missing:
            missing.setdefault(row, []).append(one)
    if missing:
        _tell(
            "For stable, each device must have passed, signed by the key that its row names; "
            "'snakemake --cores 4 stable' says how to get there. Missing:"
        )
    for row, without in missing.items():
        models = len({one.model for one in without})
        variants = ", ".join(dict.fromkeys(one.variant for one in without))
        _tell(f"  {row}: {variants}" + (f" ({models} models)" if models > 1 else ""))


def _tell(line: str) -> None:
    lines = textwrap.wrap(
        line, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )
    print("\n".join(lines))


def _verdicts(receipts: Iterable[dict[str, Any]]) -> Text:
    text = Text()
    for receipt in receipts:
        if text:
            text.append("\n")
        verdict = receipt["verdict"]
        text.append(f"{receipt['device']} ")
        text.append(verdict, style=_STYLES.get(verdict, ""))
    return text or Text("not checked", style="bold red")
