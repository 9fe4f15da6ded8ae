"""Give Snakemake something to track that it may delete."""

import os
from pathlib import Path


def link_record(written: Path, record: Path) -> None:
    """Make ``record`` a link to what a rule has written, for Snakemake to track in its place.

    Snakemake deletes what it tracks before a job and after a failed one: then only the link goes.
    Where the release is deleted, the link leads nowhere; it is removed, and the release made again.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    record.unlink(missing_ok=True)
    record.symlink_to(os.path.relpath(written.resolve(), record.parent.resolve()))
