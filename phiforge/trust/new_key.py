"""Make a key pair in PEM: to sign receipts on a device, or to sign releases.

A password for the private key is read from the variable that its use will read:
PHIFORGE_RUNNER_KEY_PASSWORD for ed25519, PHIFORGE_SIGNING_KEY_PASSWORD for ecdsa.
"""

import argparse
from pathlib import Path

from phiforge.trust.keys import KINDS, RUNNER_KEY, SIGNING_KEY, new_key, password_from_environment


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
    password = password_from_environment(SIGNING_KEY if arguments.kind == "ecdsa" else RUNNER_KEY)
    key = new_key(arguments.private, arguments.public, password, arguments.kind)
    print(f"key {key.keyid}: private in {arguments.private}, public in {arguments.public}")
