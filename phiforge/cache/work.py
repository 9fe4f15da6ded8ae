"""Read from the command line of a rule what it makes, and where."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from phiforge.cache import PAYLOADS
from phiforge.jobs import Check, read_job
from phiforge.receipts.receipt_files import envelope_path

PREDICTIONS = "predictions"  # of a check on a device: all of it that is the same on another one
SHARED_ROWS = ("standin", "compiler")  # what a device says is believed of its own machine only
RULES = ("convert", "reference", "check", "place")
SOURCE, BUILD, REFERENCE = "SOURCE.json", "BUILD.json", "REFERENCE.json"


@dataclass(frozen=True)
class Work:
    """What one job of a rule makes.

    Attributes:
        rule: or `PREDICTIONS`, a part of what the rule check does.
        options: of the command.
        tree: a folder that appears as a whole; None: there is none.
        records: small files, in the order in which they are written, the tracked one last.
    """

    rule: str
    options: argparse.Namespace
    tree: Path | None
    records: tuple[Path, ...]

    @property
    def is_all(self) -> bool:
        """Whether nothing is left to do for the command once this is taken."""
        return self.rule != PREDICTIONS


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
    for one in ("reference", "calibration", "first-layers", "key", "predictions"):
        parser.add_argument(f"--{one}", type=Path, nargs="?")
    options, _ = parser.parse_known_args(argv)
    if options.job is None or not (options.receipt if argv[0] == "check" else options.into):
        return None
    if argv[0] == "check" and (row := read_job(Check, options.job).row).kind not in SHARED_ROWS:
        # Where no files are shared, each job's predictions end with it, and so does what is noted.
        here = row.runner in ("local", "cluster") and not os.environ.get(PAYLOADS)
        kept = options.predictions if here else None
        return None if kept is None else Work(PREDICTIONS, options, kept, ())
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
