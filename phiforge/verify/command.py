"""The verify command: ``phiforge verify DIR`` and ``python phiforge-verify.pyz DIR``.

Exit code 0: the release holds, and a signer that you named made it. 1: it is refused, one line for
each reason. 2: wrong usage. 3: it is intact, but nobody that you named signed it, as any forger's
is; name the signer (--key, or --ca with --subject), or accept that (--any-signer).
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from phiforge.artifact.checksums import visible
from phiforge.errors import PhiforgeError
from phiforge.receipts.policy import CHANNELS
from phiforge.trust.certificates import parse_subject, read_authorities
from phiforge.trust.keys import read_public
from phiforge.verify.trust import Trust
from phiforge.verify.verification import Verification, verify

UNKNOWN_SIGNER = 3  # the exit code: a script that forgets --key must not take a forger's release


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
        help="PEM file of authorities that a signing certificate may lead to; needs --subject",
    )  # fmt: skip
    parser.add_argument(
        "--subject", action="append", default=[], metavar="NAME",
        help="whose certificate of those authorities may sign: its subject as RFC 4514 writes it, "
        "such as CN=Releases,O=Acme; may be given more than once",
    )  # fmt: skip
    parser.add_argument(
        "--any-signer", action="store_true",
        help="without --key and --ca: exit with 0 for what is intact, whoever signed it",
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
    """Verify, print, and return the exit code.

    Raises:
        PhiforgeError: ``--any-signer`` beside a signer, or ``--subject`` without ``--ca``.
    """
    _check_signers(arguments)
    keys = tuple(map(read_public, arguments.key))
    authorities = tuple(one for path in arguments.ca for one in read_authorities(path))
    subjects = tuple(map(parse_subject, arguments.subject))
    trust = Trust(keys, authorities, subjects, arguments.at or datetime.now(UTC))
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
    if verification.refused:
        return 1
    return 0 if verification.authenticated or arguments.any_signer else UNKNOWN_SIGNER


def main(argv: Sequence[str] | None = None) -> None:
    """The zipapp's command."""
    parser = argparse.ArgumentParser(prog="phiforge-verify", description=__doc__)
    add_arguments(parser)
    raise SystemExit(run(parser.parse_args(argv)))


def _check_signers(arguments: argparse.Namespace) -> None:
    if arguments.any_signer and (arguments.key or arguments.ca):
        what, remedy = "--any-signer contradicts --key and --ca", "leave one of them out"
    elif arguments.subject and not arguments.ca:
        what = "--subject names a certificate of an authority, and no authority is named"
        remedy = "give --ca CERT as well"
    else:
        return
    raise PhiforgeError(what, remedy=remedy)


def _verdict(verification: Verification, folder: Path) -> str:
    if verification.refused:
        count = sum(finding.refuses for finding in verification.findings)
        return f"REFUSED: {folder}: {count} finding{'s' if count != 1 else ''}"
    name = f"{verification.model} {verification.variant} {verification.version}"
    digest = f"sha256:{verification.artifact_sha256}"
    if not verification.authenticated:
        return f"INTACT: {name} ({verification.channel}), {digest}; NOBODY THAT YOU NAMED SIGNED IT"
    return f"VERIFIED: {name} ({verification.channel}), {digest}, signed by {verification.keyid}"


def _report(verification: Verification, folder: Path) -> dict[str, object]:
    verdict = _verdict(verification, folder).split(":")[0].lower()
    return {**asdict(verification), "folder": str(folder), "verdict": verdict}


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
