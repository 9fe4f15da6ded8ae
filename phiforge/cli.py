"""Run one of phiforge's commands: ``phiforge COMMAND …`` or ``python -m phiforge COMMAND …``.

A command is a module with two functions, ``add_arguments(parser)`` and ``run(arguments)``; the
exit code is what ``run`` returns (None: 0), or 1 after a `PhiforgeError`. Only the module of the
command that is run is imported: a table need not wait for what signs.
"""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from phiforge.cache import CACHE, PAYLOADS
from phiforge.checkout import ROOT
from phiforge.errors import PhiforgeError, run_command

if TYPE_CHECKING:
    from phiforge.cache.command import CachedCommand
    from phiforge.cache.payloads import Payloads


@dataclass(frozen=True)
class Command:
    """Where a command is implemented, and what it does in one line."""

    module: str
    summary: str


COMMANDS: Mapping[str, Command] = {
    # What a person runs.
    "doctor": Command("phiforge.doctor", "say what this machine can make, check and release"),
    "verify": Command("phiforge.verify.command", "check a release folder"),
    "diff": Command("phiforge.release.diff", "compare two releases of a variant"),
    "status": Command("phiforge.release.status", "print the table of the last run again"),
    "new-key": Command("phiforge.trust.new_key", "make a key pair"),
    "revoke": Command("phiforge.release.revoke", "revoke a released version"),
    "publish": Command("phiforge.publish.publish", "publish releases to a Hub and to storages"),
    "prune": Command("phiforge.publish.prune", "remove old versions from where they are published"),
    "configuration": Command("phiforge.reference", "print every key of the configuration"),
    # What a rule runs, with the job that the rule has written.
    "fetch": Command("phiforge.sources.fetch", "fetch a model's source tree"),
    "reference": Command("validators.reference", "answer the golden prompts with transformers"),
    "place": Command("converters.openvino.placement", "measure which matrices need INT8 most"),
    "convert": Command("converters.convert", "convert a model to a variant"),
    "check": Command("phiforge.remote.check", "check a variant where its device row says"),
    "blocked": Command("validators.blocked", "write the receipts of rows that cannot run here"),
    "check-here": Command("validators.check", "check a variant on this machine, as in a kit"),
    "kit": Command("phiforge.remote.pack", "pack a check for a device without a connection"),
    "release": Command("phiforge.release.command", "judge a variant's receipts and release it"),
    "promote": Command("phiforge.release.promotion", "promote a release to stable"),
    "stable": Command("phiforge.release.stable", "say what is stable and what is missing"),
    "index": Command("phiforge.release.index", "write a model's index and page"),
    "page": Command("phiforge.release.page", "write the page over all models"),
    "verifier": Command("phiforge.release.verifier", "write the one-file verifier"),
    "rebuild": Command("phiforge.reproduce.rebuild", "convert again, under varied conditions"),
    "compare": Command("phiforge.reproduce.identity", "compare two builds byte by byte"),
    "reproduce": Command("phiforge.reproduce.attest", "require that all builds were reproduced"),
}

# One way to use what a person runs, at the end of its --help.
EXAMPLES: Mapping[str, str] = {
    "doctor": "phiforge doctor --config variants=openvino-int4",
    "verify": "phiforge verify artifacts/release/phi3-tiny/openvino-int4 --key release.pub",
    "diff": "phiforge diff ~/old/openvino-int4 artifacts/release/phi3-tiny/openvino-int4",
    "status": "phiforge status phi3-tiny/openvino-int4 --junit status.xml",
    "new-key": "phiforge new-key --kind ecdsa --private ~/keys/release.pem --public release.pub",
    "revoke": 'phiforge revoke phi3-tiny/openvino-int4 0.1.0 --reason "wrong tokenizer"',
    "publish": "phiforge publish phi3-tiny/openvino-int4 --configfile publish.yaml",
    "prune": "phiforge prune --keep 2 phi3-tiny/openvino-int4 --configfile publish.yaml",
    "configuration": "phiforge configuration > config/README.md",
}

LONG = ("place", "convert", "reference", "check", "rebuild")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command that ``argv`` names, and end the process with its exit code."""
    run_command(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: Sequence[str]) -> None:
    payloads = _payloads(argv)
    if payloads is not None:
        payloads.fetch()
    cached = _cached(argv)
    if cached is not None and cached.take():
        if payloads is not None:
            payloads.store()
        raise SystemExit(0)
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
            epilog=f"example:\n  {EXAMPLES[name]}" if name in EXAMPLES else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if module is not None:
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    arguments = parser.parse_args(argv)
    _refuse_another_checkout(Path.cwd())
    with _progress(arguments):
        code = arguments.run(arguments)
    if cached is not None and not code:
        cached.put()
    if payloads is not None and not code:
        payloads.store()
    raise SystemExit(code)


def _payloads(argv: Sequence[str]) -> "Payloads | None":
    """Return what carries payloads to and from a command; None: the file system is shared."""
    storage = os.environ.get(PAYLOADS)
    if not storage or not argv:
        return None
    _refuse_another_checkout(Path.cwd())
    from phiforge.cache.payloads import Payloads

    return Payloads(argv, json.loads(storage))


def _cached(argv: Sequence[str]) -> "CachedCommand | None":
    """Return the command of a rule whose result other agents may have; None: nothing is shared."""
    configured = os.environ.get(CACHE)
    if not configured:
        return None
    _refuse_another_checkout(Path.cwd())
    from phiforge.cache.command import CachedCommand
    from phiforge.cache.work import read_work

    work = read_work(argv)
    return CachedCommand(work, argv, json.loads(configured)) if work else None


def _progress(arguments: argparse.Namespace) -> AbstractContextManager[None]:
    if arguments.command not in LONG:
        return nullcontext()
    from phiforge.heartbeat import heartbeat

    return heartbeat(f"{arguments.command} {arguments.job.stem}")


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
