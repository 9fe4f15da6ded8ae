"""``python -m phiforge.release …``: gate, stage, summarize, compare, verify or revoke releases."""

import argparse
import json
import os
import sys
from pathlib import Path

from phiforge.errors import run_command
from phiforge.release.present import add_arguments, told_now

LIMITS = Path("config/regression.yaml")


def main() -> None:
    """Each command imports what it needs; a table need not wait for what signs."""
    arguments = _parse()
    if arguments.command == "gate":
        from phiforge.release.gate import gate

        gate(
            arguments.build,
            arguments.receipts,
            arguments.channel,
            arguments.verdict,
            **told_now(arguments),
        )
    elif arguments.command == "stage":
        from phiforge.release.stage import Terms, stage
        from phiforge.trust.keys import SIGNING

        stage(
            arguments.build,
            arguments.verdict,
            arguments.receipts,
            {
                "summary": arguments.summary,
                "notice": arguments.notice,
                "snippet": arguments.snippet.read_text("utf-8").strip(),
            },
            Terms(
                arguments.version,
                json.loads(arguments.recipe),
                arguments.builder,
                json.loads(arguments.signing or os.environ.get(SIGNING, "{}")),
            ),
            arguments.into,
        )
    elif arguments.command == "diff":
        from phiforge.release.diff import report

        report(arguments.old, arguments.new, arguments.limits, arguments.markdown)
    elif arguments.command == "verify":
        from phiforge.verify import command

        raise SystemExit(command.run(arguments))
    elif arguments.command == "revoke":
        _revoke(arguments)
    elif arguments.command == "verifier":
        from phiforge.release.verifier import write_verifier

        write_verifier(arguments.into)
    else:
        from phiforge.release.summary import summarize

        summarize((tuple(pair.split("/", 1)) for pair in arguments.pairs), arguments.root)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m phiforge.release", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (
        ("gate", "judge a variant's receipts"),
        ("stage", "lay out a release folder"),
    ):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("--build", required=True, type=Path, help="BUILD.json")
        command.add_argument("--verdict", required=True, type=Path, help="the gate's verdict")
        command.add_argument("receipts", nargs="+", type=Path, help="the variant's receipts")
        if name == "gate":
            command.add_argument("--channel", required=True, help="the channel's name")
            add_arguments(command)
        else:
            command.add_argument("--summary", required=True, help="the card's first sentence")
            command.add_argument("--notice", default="", help="what users must know first")
            command.add_argument("--snippet", required=True, type=Path, help="loading snippet")
            command.add_argument("--into", required=True, type=Path, help="the release folder")
            command.add_argument("--version", required=True, help="semantic version")
            command.add_argument("--recipe", required=True, help="the variant's block, as JSON")
            command.add_argument("--builder", required=True, help="URI of who runs this")
            command.add_argument("--signing", help="config key 'signing', as JSON")
    compare = commands.add_parser("diff", help="what changed between two releases of a variant")
    compare.add_argument("old", type=Path, help="the old release folder")
    compare.add_argument("new", type=Path, help="the new release folder")
    compare.add_argument("--limits", type=Path, default=LIMITS, help="what counts as a regression")
    compare.add_argument("--markdown", type=Path, help="write the table for release notes here")
    summary = commands.add_parser("summary", help="print the table of a run")
    summary.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")
    summary.add_argument("pairs", nargs="*", metavar="MODEL/VARIANT", help="what was wanted")
    _add_verification(commands)
    return parser.parse_args()


def _add_verification(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The commands for who receives releases, and for taking one back."""
    verify = commands.add_parser("verify", help="check a release folder")
    if sys.argv[1:2] == ["verify"]:
        from phiforge.verify import command

        command.add_arguments(verify)
    verifier = commands.add_parser("verifier", help="write the one-file verifier")
    verifier.add_argument("--into", required=True, type=Path, help="the .pyz file to write")
    revoke = commands.add_parser("revoke", help="take a released version back")
    revoke.add_argument("release", metavar="MODEL/VARIANT", help="what was released")
    revoke.add_argument("version", metavar="VERSION", help="the version to revoke")
    revoke.add_argument("--reason", required=True, help="why, for everyone who has it")
    revoke.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")


def _revoke(arguments: argparse.Namespace) -> None:
    from phiforge.release.revoke import revoke
    from phiforge.release.signing import release_key
    from phiforge.settings.documents import read_yaml

    key = release_key(read_yaml(Path("config/config.yaml")).get("signing") or {})
    model, _, variant = arguments.release.partition("/")
    folder = arguments.root / "release" / model
    path = revoke(folder, variant, arguments.version, arguments.reason, key)
    told = f"revoked: {arguments.release} {arguments.version}; send {path} to who has it, and run"
    print(f"{told} 'snakemake publish' if it was published")


if __name__ == "__main__":
    run_command(main)
