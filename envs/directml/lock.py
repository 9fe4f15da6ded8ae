"""Renew ``envs/directml/packages.lock``, the Debian packages of `make directml`.

    python3.11 envs/directml/lock.py        (part of ``make directml-lock``)

They are of Debian 13 (trixie) and, of Debian's unstable, only what `UNSTABLE` names.
"""

from build import PACKAGES
from debian_lock import renew
from install import run_main

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
    releases = (RELEASE, UNSTABLE_RELEASE)
    renew(PACKAGES, "directml", releases, WANTED, preferences=_PREFERENCES)


if __name__ == "__main__":
    run_main(main)
