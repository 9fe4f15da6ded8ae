"""``python -m phiforge.reproduce rebuild|compare|require``: is it the recipe, or chance?"""

import argparse
from pathlib import Path

from phiforge.errors import run_command
from phiforge.reproduce.rebuild import rebuild


def main() -> None:
    arguments, conversion = _parser().parse_known_args()
    if arguments.command == "rebuild":
        rebuild(conversion, arguments.source, arguments.base, arguments.into)
        return
    if conversion:
        _parser().error(f"unknown arguments: {' '.join(conversion)}")
    from phiforge.reproduce.identity import compare, require

    if arguments.command == "compare":
        compare(arguments.build, arguments.rebuilt, arguments.into)
    else:
        require(arguments.records, arguments.releases)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m phiforge.reproduce", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    again = commands.add_parser(
        "rebuild", help="convert again; other arguments are those of python -m converters"
    )
    again.add_argument("--source", required=True, type=Path, help="SOURCE.json of the source")
    again.add_argument("--base", nargs="?", type=Path, help="BUILD.json of the rebuilt base")
    again.add_argument("--into", required=True, type=Path, help="folder of the second build")
    sides = commands.add_parser("compare", help="hold two builds side by side")
    sides.add_argument("--build", required=True, type=Path, help="BUILD.json of the first")
    sides.add_argument("--rebuilt", required=True, type=Path, help="BUILD.json of the second")
    sides.add_argument("--into", required=True, type=Path, help="the record")
    verdicts = commands.add_parser("require", help="fail unless all records say identical")
    verdicts.add_argument("records", nargs="+", type=Path, help="records of 'compare'")
    verdicts.add_argument(
        "--releases", type=Path, default=Path("artifacts/release"), help="releases to tell of it"
    )
    return parser


if __name__ == "__main__":
    run_command(main)
