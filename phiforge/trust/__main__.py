"""``python -m phiforge.trust new-key --private FILE --public FILE``: make a key pair.

The private key's password, if it is to have one, is read from PHIFORGE_RUNNER_KEY_PASSWORD.
"""

import argparse
from pathlib import Path

from phiforge.errors import run_command
from phiforge.trust.keys import KINDS, RUNNER_KEY, new_key, password_from_environment


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m phiforge.trust", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("new-key", help="make a key pair")
    command.add_argument(
        "--kind", choices=tuple(KINDS), default="ed25519",
        help="ed25519 signs receipts (the default), ecdsa (P-256) signs releases",
    )  # fmt: skip
    command.add_argument("--private", required=True, type=Path, help="PEM file to make, mode 0600")
    command.add_argument("--public", required=True, type=Path, help="PEM file to make, to give out")
    options = parser.parse_args()
    key = new_key(
        options.private, options.public, password_from_environment(RUNNER_KEY), options.kind
    )
    print(f"key {key.keyid}: private in {options.private}, public in {options.public}")


if __name__ == "__main__":
    run_command(main)
