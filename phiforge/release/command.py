"""Release a variant: judge its receipts, and lay out its folder."""

import argparse
import json
import os
from pathlib import Path

from phiforge.artifact.manifest import MANIFEST
from phiforge.jobs import Release, read_job
from phiforge.release.gate import GateError, gate
from phiforge.release.stage import stage
from phiforge.release.tracking import link_record
from phiforge.trust.keys import SIGNING


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule release writes it")
    parser.add_argument("--build", required=True, type=Path, help="BUILD.json")
    parser.add_argument(
        "--base", nargs="*", default=[], type=Path, help="BUILD.json that it was compiled from"
    )
    parser.add_argument("--golden", required=True, type=Path, help="golden prompts (YAML)")
    parser.add_argument("--reference", required=True, type=Path, help="REFERENCE.json")
    parser.add_argument("--acceptance", required=True, type=Path, help="gates (YAML)")
    parser.add_argument("--snippet", required=True, type=Path, help="Python that loads the payload")
    parser.add_argument("--verdict", required=True, type=Path, help="where the verdict goes")
    parser.add_argument("--into", required=True, type=Path, help="the release folder")
    parser.add_argument("--record", type=Path, help="link to make to the release's manifest")
    parser.add_argument("receipts", nargs="+", type=Path, help="the variant's receipts")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Release, arguments.job)
    try:
        gate(
            arguments.build,
            arguments.receipts,
            job.gate.channel,
            arguments.verdict,
            golden=arguments.golden,
            reference=arguments.reference,
            acceptance=arguments.acceptance,
            overrides=job.gate.gates,
            rows=job.gate.rows,
            base_path=next(iter(arguments.base), None),
        )
    except GateError:
        arguments.verdict.unlink(missing_ok=True)  # of an earlier run
        raise
    stage(
        job,
        arguments.build,
        arguments.verdict,
        arguments.receipts,
        arguments.snippet,
        arguments.into,
        json.loads(os.environ.get(SIGNING, "{}")),
    )
    if arguments.record is not None:
        link_record(arguments.into / MANIFEST, arguments.record)
