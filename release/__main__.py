"""``python -m release gate|stage|summary|diff``: from receipts to a release folder."""

import argparse
from pathlib import Path

from records.errors import run_command
from release.gate import gate
from release.scrutiny import add_arguments, told_now

LIMITS = Path("config/regression.yaml")


def main() -> None:
    arguments = _parse()
    if arguments.command == "gate":
        gate(
            arguments.build,
            arguments.receipts,
            arguments.channel,
            arguments.verdict,
            **told_now(arguments),
        )
    elif arguments.command == "stage":
        from release.stage import stage  # jinja2: a gate need not wait for it

        stage(
            arguments.build,
            arguments.verdict,
            arguments.receipts,
            {"summary": arguments.summary, "snippet": arguments.snippet.read_text("utf-8").strip()},
            arguments.into,
        )
    elif arguments.command == "diff":
        from release.diff import report

        report(arguments.old, arguments.new, arguments.limits, arguments.markdown)
    else:
        from release.summary import summarize

        summarize((tuple(pair.split("/", 1)) for pair in arguments.pairs), arguments.root)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m release", description=__doc__)
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
            command.add_argument("--snippet", required=True, type=Path, help="loading snippet")
            command.add_argument("--into", required=True, type=Path, help="the release folder")
    compare = commands.add_parser("diff", help="what changed between two releases of a variant")
    compare.add_argument("old", type=Path, help="the old release folder")
    compare.add_argument("new", type=Path, help="the new release folder")
    compare.add_argument("--limits", type=Path, default=LIMITS, help="what counts as a regression")
    compare.add_argument("--markdown", type=Path, help="write the table for release notes here")
    summary = commands.add_parser("summary", help="print the table of a run")
    summary.add_argument("--root", type=Path, default=Path("artifacts"), help="generated files")
    summary.add_argument("pairs", nargs="*", metavar="MODEL/VARIANT", help="what was wanted")
    return parser.parse_args()


if __name__ == "__main__":
    run_command(main)
