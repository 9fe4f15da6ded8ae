"""A folder as two hosts see it on a shared file system that lacks much of what a local one has.

sshfs without a server: it talks to OpenSSH's sftp-server on a pipe. The mounts have no exchange of
two names (renameat2 says EINVAL), share no locks, keep a file that is deleted while it is open
under another name (as NFS does), and count time in whole seconds.
"""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

_SERVER = Path("/usr/lib/openssh/sftp-server")
_NEEDS = "needs sshfs, openssh-sftp-server and the right to mount by /dev/fuse"


@contextmanager
def two_mounts(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Make one folder below ``folder`` and mount it twice, until the block ends."""
    if shutil.which("sshfs") is None or not _SERVER.exists():
        pytest.skip(_NEEDS)
    program, shared = folder / "sftp", folder / "shared"
    program.write_text(f"#!/bin/sh\nexec {_SERVER}\n")
    program.chmod(0o755)
    shared.mkdir()
    with ExitStack() as mounts:
        yield (
            mounts.enter_context(_mounted(program, shared, folder / "host-1")),
            mounts.enter_context(_mounted(program, shared, folder / "host-2")),
        )


@contextmanager
def _mounted(program: Path, shared: Path, at: Path) -> Iterator[Path]:
    at.mkdir()
    mount = ["sshfs", "-o", f"ssh_command={program}", f"pipe:{shared}", str(at)]
    if subprocess.run(mount, check=False).returncode != 0:
        pytest.skip(_NEEDS)
    try:
        yield at
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(at)], check=True)
