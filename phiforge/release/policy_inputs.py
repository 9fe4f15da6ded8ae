"""Read what receipts are held against: the files and rows of gate and promotion."""

import argparse
from pathlib import Path
from typing import Any

from phiforge.jobs import Gate, Promote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the job, and the files that a policy rests on."""
    parser.add_argument("job", type=Path, help="the job, as the rule writes it")
    parser.add_argument("--build", required=True, type=Path, help="BUILD.json")
    parser.add_argument("--golden", required=True, type=Path, help="golden prompts (YAML)")
    parser.add_argument("--reference", required=True, type=Path, help="REFERENCE.json")
    parser.add_argument("--acceptance", required=True, type=Path, help="gates (YAML)")


def policy_inputs(arguments: argparse.Namespace, job: Gate | Promote) -> dict[str, Any]:
    """Return the keyword arguments of `phiforge.release.scrutiny.expect`."""
    return {
        "golden": arguments.golden,
        "reference": arguments.reference,
        "acceptance": arguments.acceptance,
        "overrides": job.gates,
        "rows": job.rows,
    }
