"""What the installations below ``envs/`` share: one-line errors and the run of a command.

Python's standard library only: they run before anything is installed.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class InstallError(Exception):
    """What is wrong and what to do about it, in one line."""


def run(command: list[str], failure: str, **environment: str) -> None:
    """Run a command whose output the person sees.

    Raises:
        InstallError: ``failure``, where it does not end with 0.
    """
    done = subprocess.run(command, env={**os.environ, **environment}, check=False)
    if done.returncode != 0:
        raise InstallError(failure)


def download_windows_wheels(python: str, lock: Path, into: Path, failure: str) -> None:
    """Download the wheels that ``lock`` pins for Windows; pip refuses one with another digest.

    Raises:
        InstallError: ``failure``, where pip did not.
    """
    command = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--platform", "win_amd64", "--python-version", "3.11", "--only-binary", ":all:"]
    command += ["--requirement", str(lock), "--dest", str(into)]
    run(command, failure)


def run_main(main: Callable[[], None]) -> None:
    """Call ``main``; an error is one line and exit code 1."""
    try:
        main()
    except InstallError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(1) from None
