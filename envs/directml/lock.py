"""Renew ``envs/directml/packages.lock``, the Debian packages of `make directml`.

    python3.11 envs/directml/lock.py        (part of ``make directml-lock``)

apt resolves them in a folder of its own: Debian 13 (trixie) and, of Debian's unstable, only what
`UNSTABLE` names. Nothing of this machine's apt is changed.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path

from build import PACKAGES, mirror
from install import InstallError, run_main

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
RELEASE, UNSTABLE_RELEASE = "trixie", "sid"

WANTED = (
    "bash", "coreutils", "dash", "libc-bin", "util-linux",  # what a shell script needs
    "wine64", "libwine",
    "mesa-vulkan-drivers", "libvulkan1",  # lavapipe, Vulkan in software
    "libvkd3d1",
    "xvfb", "xkb-data", "x11-xkb-utils",  # wine's DXGI wants a display
    # what our two libraries and the runner are built with
    "gcc", "g++", "g++-mingw-w64-x86-64-posix", "libonnxruntime-dev", "libvkd3d-dev", "libwine-dev",
    "wine64-tools",
)  # fmt: skip

# libvkd3d takes DXIL since 1.15 (https://gitlab.winehq.org/wine/vkd3d/-/releases); trixie has 1.2.
# It is built for unstable's C library.
UNSTABLE = "libvkd3d* libc6 libc6-dev libc-bin libc-dev-bin libc-gconv-modules-extra"

_PREFERENCES = f"""\
Package: *
Pin: release n={UNSTABLE_RELEASE}
Pin-Priority: 100

Package: {UNSTABLE}
Pin: release n={UNSTABLE_RELEASE}
Pin-Priority: 995
"""


def main() -> None:
    if not KEYRING.is_file():
        raise InstallError(
            f"{KEYRING}: missing; the packages cannot be authenticated. "
            "Remedy: apt install debian-archive-keyring"
        )
    site = mirror()
    with tempfile.TemporaryDirectory(prefix="phiforge-directml-lock-") as name:
        configuration = _configure(Path(name), site)
        _apt(configuration, "update", "--quiet=2")
        listed = _apt(configuration, "install", "--yes", "--print-uris", *WANTED)
    entries = [_entry(line, site) for line in listed.splitlines() if line.startswith("'")]
    head = "# Made by 'make directml-lock': package, version, SHA-256, path on any Debian mirror.\n"
    PACKAGES.write_text(head + "".join(sorted(entries)), encoding="utf-8")
    print(f"{PACKAGES}: {len(entries)} packages")


def _configure(folder: Path, site: str) -> Path:
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "preferences").write_text(_PREFERENCES, encoding="utf-8")
    (folder / "sources.list").write_text(
        "".join(
            f"deb [arch=amd64 signed-by={KEYRING}] {site} {release} main\n"
            for release in (RELEASE, UNSTABLE_RELEASE)
        ),
        encoding="utf-8",
    )
    options = {
        "Dir::State": folder,
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Etc::SourceList": folder / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": folder / "preferences",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Acquire::Check-Valid-Until": "false",  # a mirror may be a frozen one
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "none",
        "APT::Architecture": "amd64",
        "APT::Architectures": "amd64",
        "APT::Install-Recommends": "false",
        "APT::Default-Release": RELEASE,
        "APT::Sandbox::User": "root",  # the folder is private
    }
    file = folder / "apt.conf"
    lines = [f'{name} "{value}";\n' for name, value in options.items()]
    file.write_text("".join(lines), encoding="utf-8")
    return file


def _apt(configuration: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["apt-get", *arguments],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "APT_CONFIG": str(configuration)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        print(done.stdout[-2000:], file=sys.stderr)
        raise InstallError(
            f"apt-get {arguments[0]} did not resolve the packages of envs/directml/lock.py. "
            "Remedy: read above; a package may have been renamed"
        )
    return done.stdout


def _entry(line: str, site: str) -> str:
    """One line of the lock from apt's ``'URI' FILE SIZE SHA256:DIGEST``."""
    uri, file, _, digest = line.split()
    package, version, _ = file.split("_")
    path = uri.strip("'").removeprefix(f"{site}/")
    return f"{package} {re.sub('%3a', ':', version)} {digest.removeprefix('SHA256:')} {path}\n"


if __name__ == "__main__":
    run_main(main)
