"""The verify command: ``phiforge verify DIR`` and ``python phiforge-verify.pyz DIR``.

Exit code 0: the release holds. 1: it is refused, one line for each reason. 2: wrong usage.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from phiforge.artifact.checksums import visible
from phiforge.receipts.policy import CHANNELS
from phiforge.trust.certificates import read_authorities
from phiforge.trust.keys import read_public
from phiforge.verify.trust import Trust
from phiforge.verify.verification import Verification, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="the release folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    parser.add_argument(
        "--key", type=Path, action="append", default=[], metavar="PUB",
        help="PEM file of a public key that you trust; may be given more than once",
    )  # fmt: skip
    parser.add_argument(
        "--ca", type=Path, action="append", default=[], metavar="CERT",
        help="PEM file of authorities that a signing certificate may lead to",
    )  # fmt: skip
    parser.add_argument("--channel", choices=CHANNELS, help="the standard it must meet")
    parser.add_argument(
        "--revocations", type=Path, metavar="FILE",
        help="list of revoked versions; a revocations.json beside DIR or in it is read anyway",
    )  # fmt: skip
    parser.add_argument(
        "--at", type=_moment, metavar="DATE", help="judge certificates as of YYYY-MM-DD, not today"
    )


def run(arguments: argparse.Namespace) -> int:
    """Verify, print, and return the exit code."""
    keys = tuple(map(read_public, arguments.key))
    authorities = tuple(one for path in arguments.ca for one in read_authorities(path))
    trust = Trust(keys, authorities, arguments.at or datetime.now(UTC))
    verification = verify(
        arguments.folder, trust, channel=arguments.channel, revocations=arguments.revocations
    )
    if arguments.json:
        print(json.dumps(_report(verification, arguments.folder), indent=2, sort_keys=True))
    else:
        for finding in verification.findings:
            print(finding.line())
        print(visible(_verdict(verification, arguments.folder)))
        for row, state in verification.devices.items():
            print(visible(f"  {row}: {state}"))
    return 1 if verification.refused else 0


def main(argv: Sequence[str] | None = None) -> None:
    """The zipapp's command."""
    parser = argparse.ArgumentParser(prog="phiforge-verify", description=__doc__)
    add_arguments(parser)
    raise SystemExit(run(parser.parse_args(argv)))


def _verdict(verification: Verification, folder: Path) -> str:
    if verification.refused:
        count = sum(finding.refuses for finding in verification.findings)
        return f"REFUSED: {folder}: {count} finding{'s' if count != 1 else ''}"
    name = f"{verification.model} {verification.variant} {verification.version}"
    digest = f"sha256:{verification.artifact_sha256}"
    if not verification.authenticated:
        return f"INTACT: {name} ({verification.channel}), {digest}; nobody that you know signed it"
    return f"VERIFIED: {name} ({verification.channel}), {digest}, signed by {verification.keyid}"


def _report(verification: Verification, folder: Path) -> dict[str, object]:
    verdict = _verdict(verification, folder).split(":")[0].lower()
    return {**asdict(verification), "folder": str(folder), "verdict": verdict}


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
