"""What holds now, as a command is told it: the files and rows that receipts are held against."""

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a command must be told of the present, for `phiforge.release.scrutiny.expect`."""
    parser.add_argument("--golden", required=True, type=Path, help="golden prompts (YAML)")
    parser.add_argument("--reference", required=True, type=Path, help="REFERENCE.json")
    parser.add_argument("--acceptance", required=True, type=Path, help="gates (YAML)")
    parser.add_argument("--overrides", default="{}", help="the model's own gates, as JSON")
    parser.add_argument("--rows", required=True, help="the variant's rows as configured, as JSON")


def told_now(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the keyword arguments of `phiforge.release.scrutiny.expect`."""
    return {
        "golden": arguments.golden,
        "reference": arguments.reference,
        "acceptance": arguments.acceptance,
        "overrides": json.loads(arguments.overrides),
        "rows": json.loads(arguments.rows),
    }
