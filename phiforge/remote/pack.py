"""Pack a check for a device without a connection; its receipt comes back through the inbox."""

import argparse
from dataclasses import replace
from pathlib import Path

from phiforge.jobs import Kit, read_job
from phiforge.remote.courier import write_kit
from phiforge.remote.kit import make_kit
from validators.check import TIME_LIMIT_S, CheckFiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule kit writes it")
    parser.add_argument("--artifact", required=True, type=Path, help="folder of the build")
    parser.add_argument("--reference", required=True, type=Path, help="folder of the reference")
    parser.add_argument("--golden", required=True, type=Path, help="golden prompts (YAML)")
    parser.add_argument("--acceptance", required=True, type=Path, help="gates (YAML)")
    parser.add_argument("--lock", nargs="?", type=Path, help="the device's locked environment")
    parser.add_argument("--into", required=True, type=Path, help="the zip to write")


def run(arguments: argparse.Namespace) -> None:
    job = read_job(Kit, arguments.job)
    check = replace(job.check, blocked=None, row=replace(job.check.row, runner="courier"))
    files = CheckFiles(
        arguments.artifact, arguments.reference, arguments.golden, arguments.acceptance, Path()
    )
    kit = make_kit(check, files, lock=arguments.lock, time_limit_s=TIME_LIMIT_S)
    write_kit(kit, arguments.into, payload=job.payload)
    print(f"kit for {kit.title}: {arguments.into}")
