"""Read from the command line of a rule what it makes, and where."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phiforge.receipts.receipt_files import envelope_path

RULES = ("convert", "reference", "check", "place")
SOURCE, BUILD, REFERENCE = "SOURCE.json", "BUILD.json", "REFERENCE.json"


@dataclass(frozen=True)
class Work:
    """What one job of a rule makes.

    Attributes:
        options: of the command.
        tree: a folder that appears as a whole; None: there is none.
        records: small files, in the order in which they are written, the tracked one last.
    """

    rule: str
    options: argparse.Namespace
    tree: Path | None
    records: tuple[Path, ...]


def read_work(argv: Sequence[str]) -> Work | None:
    """Read a command line; None: no cache is for what it does.

    The command's own module is not imported: to see that nothing is to be done must not take the
    seconds that torch takes.
    """
    if not argv or argv[0] not in RULES:
        return None
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("rule")
    parser.add_argument("job", type=Path, nargs="?")
    for one in ("into", "receipt", "file", "source", "base", "golden", "acceptance", "artifact"):
        parser.add_argument(f"--{one}", type=Path, nargs="?")
    for one in ("reference", "calibration", "first-layers", "key"):
        parser.add_argument(f"--{one}", type=Path, nargs="?")
    options, _ = parser.parse_known_args(argv)
    if options.job is None or not (options.receipt if argv[0] == "check" else options.into):
        return None
    tree, records = _made(options)
    return Work(argv[0], options, tree, records)


def _made(options: argparse.Namespace) -> tuple[Path | None, tuple[Path, ...]]:
    if options.rule == "convert":
        return options.into / "payload", (options.into / BUILD,)
    if options.rule == "reference":
        return options.into, ()
    if options.rule == "check":
        return None, (envelope_path(options.receipt), options.receipt)
    return None, (options.file, options.into / "RECORD.json")
