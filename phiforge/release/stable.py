"""Report what is stable, and what each other release lacks; fail where something is not stable."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from phiforge.artifact.record import read_record
from phiforge.jobs import Blocked, Stable, read_job
from phiforge.receipts.coverage import Device
from phiforge.release.promotion import PromotionError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("job", type=Path, help="the job, as rule stable writes it")
    parser.add_argument("records", nargs="*", type=Path, help="outcomes of 'promote'")


def run(arguments: argparse.Namespace) -> None:
    report(arguments.records, read_job(Stable, arguments.job).blocked)


def report(records: Sequence[Path], blocked: Mapping[str, Blocked]) -> None:
    """Print one line for each stable release, and one for each thing that another lacks.

    Args:
        blocked: ``model/variant`` to why it is not built here.

    Raises:
        PromotionError: one of them is not stable.
    """
    short = []
    for path in records:
        record = read_record(path)
        name = f"{record['model']} {record['variant']}"
        if record["promoted"]:
            devices = ", ".join(str(Device(**one)) for one in record["devices"])
            signed = f"signed by key {record['keyid'][:16]}, resting on {devices}"
            print(f"{name}: stable since {record['since']}, {signed}")
            continue
        short.append(name)
        for lack in record["missing"]:
            print(f"{name}: {lack['row']} is missing: {lack['what']}. To get it: {lack['how']}")
    for name, why in blocked.items():
        short.append(name)
        print(f"{name.replace('/', ' ')}: not built here: {why.reason}. {why.remedy}")
    if short:
        total = len(records) + len(blocked)
        raise PromotionError(
            f"{len(short)} of {total} releases are not stable",
            remedy="each missing receipt and how to get it is in the lines above",
        )
