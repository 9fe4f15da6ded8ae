"""Run a check where the row says, or pack it for a courier.

    python -m phiforge.remote check [--labs JSON] [--key FILE] [--lock FILE] [--inbox FILE…] CHECK
    python -m phiforge.remote kit --lock FILE --payload yes|no --into ZIP CHECK

CHECK is the options of ``python -m validators.check``, which does the work wherever it is done.
A lab host that does not answer is an error: exit code 1 and no receipt. Where the row's device
is not here (``--blocked``), a receipt that a courier brought counts; without one it is blocked.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phiforge.errors import run_command
from phiforge.receipts.receipt_files import ENVELOPE
from phiforge.remote import RunnerError
from validators import check


def main() -> None:
    own, rest = _parse()
    options = check.parse(rest)
    row = json.loads(options.row_config)
    if own.command == "kit":
        _pack(own, options)
    elif options.blocked is None and row["runner"] == "ssh":
        _over_ssh(own, options)
    elif options.blocked is not None and own.inbox:
        _from_inbox(own, options, rest)
    elif options.blocked is None and _needs_device(row):
        from phiforge.remote.device_lock import device_lock

        with device_lock(row["executes"]):
            check.main(rest)
    else:
        check.main(rest)


def _needs_device(row: Mapping[str, Any]) -> bool:
    """Whether the row is a device of which there is one; processors are shared."""
    return bool(row["kind"] == "device" and row["executes"] != "CPU")


def _pack(own: argparse.Namespace, options: argparse.Namespace) -> None:
    from phiforge.remote.courier import write_kit
    from phiforge.remote.kit import make_kit

    kit = make_kit(options, runner="courier", lock=_lock(own, options))
    write_kit(kit, own.into, payload=own.payload == "yes")
    print(f"kit for {kit.title}: {own.into}")


def _over_ssh(own: argparse.Namespace, options: argparse.Namespace) -> None:
    from phiforge.remote.kit import make_kit
    from phiforge.remote.ssh import check_over_ssh
    from phiforge.settings.devices import LabHost

    host = LabHost(**json.loads(own.labs)[options.row])
    options.time_limit_s = host.time_limit_s
    kit = make_kit(options, runner="ssh", lock=_lock(own, options))
    check_over_ssh(kit, host, key=own.key, into=options.receipt)


def _from_inbox(own: argparse.Namespace, options: argparse.Namespace, rest: list[str]) -> None:
    from phiforge.remote.inbox import take

    files = [path for path in own.inbox if not path.name.endswith(ENVELOPE)]
    taken, notes = take(files, options, own.key)
    for note in notes:
        print(f"note: {note}")
    if not taken:
        reason = "; ".join([options.blocked, *notes])
        check.main([*rest, "--blocked", reason])


def _lock(own: argparse.Namespace, options: argparse.Namespace) -> Path:
    if own.lock is None:
        raise RunnerError(
            "no-lock",
            f"row '{options.row}' names no locked environment for this artifact's format",
            where="config/devices.yaml",
            remedy="add 'lock:' to the row's runtime (docs/devices.md)",
        )
    return Path(own.lock)


def _parse() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        prog="python -m phiforge.remote", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("command", choices=["check", "kit"])
    parser.add_argument(
        "--labs",
        default=os.environ.get("PHIFORGE_LABS", "{}"),
        help="row to its lab host, as JSON; else the variable PHIFORGE_LABS",
    )
    parser.add_argument("--key", nargs="?", type=Path, help="public key that signs the receipts")
    parser.add_argument("--lock", nargs="?", help="the device's locked environment")
    parser.add_argument("--inbox", nargs="*", type=Path, default=[], help="what a courier brought")
    parser.add_argument("--payload", choices=["yes", "no"], default="yes", help="in the kit")
    parser.add_argument("--into", type=Path, help="the kit's zip")
    return parser.parse_known_args(sys.argv[1:])


if __name__ == "__main__":
    run_command(main)
