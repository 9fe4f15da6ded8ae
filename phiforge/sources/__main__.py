"""``python -m phiforge.sources``: fetch one model's source tree."""

import argparse
import json
from pathlib import Path

from phiforge.errors import run_command
from phiforge.sources.fetch import fetch
from phiforge.sources.source import parse_source


def main() -> None:
    """Read the arguments and fetch."""
    parser = argparse.ArgumentParser(prog="python -m phiforge.sources", description=__doc__)
    parser.add_argument("--model", required=True, help="the model's name, for messages")
    parser.add_argument("--source", required=True, help="the model's source block as JSON")
    parser.add_argument("--into", required=True, type=Path, help="artifacts/source/<model>")
    arguments = parser.parse_args()
    fetch(arguments.model, parse_source(json.loads(arguments.source)), arguments.into)


if __name__ == "__main__":
    run_command(main)
