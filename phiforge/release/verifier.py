"""Write ``phiforge-verify.pyz``: the verify command as one file, for teams that have nothing else.

A zipapp (https://docs.python.org/3.11/library/zipapp.html) of `phiforge.verify` and the little it
imports; the same sources give the same bytes.
"""

import argparse
import io
import zipfile
from pathlib import Path

from phiforge.artifact.scratch import replacing
from phiforge.checkout import ROOT
from phiforge.settings.modules import module_files

_OLDEST = (1980, 1, 1, 0, 0, 0)  # what a zip file can say about no time at all
_MODULE = "phiforge.verify.command"
_MAIN = '''\
"""Checks a phiforge release folder: python phiforge-verify.pyz --help"""

import sys

if sys.version_info < (3, 11):
    sys.exit("error: phiforge-verify needs Python 3.11 or newer")
try:
    from cryptography.x509.verification import ExtensionPolicy
except ImportError:
    sys.exit("error: phiforge-verify needs the package 'cryptography', 45 or newer")

from phiforge.errors import run_command
from phiforge.verify.command import main

run_command(main)
'''


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--into", required=True, type=Path, help="the .pyz file to write")


def run(arguments: argparse.Namespace) -> None:
    write_verifier(arguments.into)


def write_verifier(into: Path) -> None:
    """Write the zipapp to ``into``, by rename."""
    data = io.BytesIO(b"")
    data.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(data, "a", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", _MAIN)
        for name in module_files(_MODULE):
            _add(archive, name, (ROOT / name).read_text("utf-8"))
    with replacing(into) as scratch:
        scratch.write_bytes(data.getvalue())
        scratch.chmod(0o755)


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    entry = zipfile.ZipInfo(name, _OLDEST)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    archive.writestr(entry, text)
