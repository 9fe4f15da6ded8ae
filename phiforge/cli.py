"""Run one of phiforge's commands: ``phiforge COMMAND …`` or ``python -m phiforge COMMAND …``.

A command is a module with two functions, ``add_arguments(parser)`` and ``run(arguments)``; the
exit code is what ``run`` returns (None: 0), or 1 after a `PhiforgeError`. Only the module of the
command that is run is imported: a table need not wait for what signs.
"""

import argparse
import importlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError, run_command


@dataclass(frozen=True)
class Command:
    """Where a command is implemented, and what it does in one line."""

    module: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    "verify": Command("phiforge.verify.command", "check a release folder"),
    "reference": Command("phiforge.reference", "print every key of the configuration"),
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that ``argv`` names, and end the process with its exit code."""
    run_command(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="phiforge", description="Build, check, release and verify Phi-3 for AI PCs."
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    named = next((word for word in argv if not word.startswith("-")), None)
    for name, command in COMMANDS.items():
        # A parser without arguments for all but the one that runs: its module need not be imported.
        module = importlib.import_module(command.module) if name == named else None
        described = command.summary if module is None else module.__doc__
        subparser = commands.add_parser(
            name,
            help=command.summary,
            description=described,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if module is not None:
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    _refuse_another_checkout(Path.cwd())
    raise SystemExit(arguments.run(arguments))


def _refuse_another_checkout(folder: Path) -> None:
    """Refuse to work in a checkout with the code of another one.

    Raises:
        PhiforgeError: ``folder`` is in a checkout of phiforge that this code is not part of.
    """
    for parent in (folder, *folder.parents):
        if (parent / "phiforge/cli.py").is_file():
            if parent.resolve() != ROOT:
                raise PhiforgeError(
                    "this folder is in another checkout than the command",
                    where=folder,
                    expected=ROOT,
                    found=parent,
                    remedy=f"run {parent}/.venv/bin/phiforge, or 'python -m phiforge' in {parent}",
                )
            return
