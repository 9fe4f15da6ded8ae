"""Make a key pair in PEM: to sign receipts on a device, or to sign releases.

The private key's password, if it is to have one, is read from PHIFORGE_RUNNER_KEY_PASSWORD.
"""

import argparse
from pathlib import Path

from phiforge.trust.keys import KINDS, RUNNER_KEY, new_key, password_from_environment


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kind",
        choices=tuple(KINDS),
        default="ed25519",
        help="ed25519 signs receipts (the default), ecdsa (P-256) signs releases",
    )
    parser.add_argument("--private", required=True, type=Path, help="PEM file to make, mode 0600")
    parser.add_argument("--public", required=True, type=Path, help="PEM file to make, to give out")


def run(arguments: argparse.Namespace) -> None:
    password = password_from_environment(RUNNER_KEY)
    key = new_key(arguments.private, arguments.public, password, arguments.kind)
    print(f"key {key.keyid}: private in {arguments.private}, public in {arguments.public}")
