"""Name the checkout that this code is part of."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""Folder of the checkout, or of a kit's ``code/``, that these modules were loaded from."""
