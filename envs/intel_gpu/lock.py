"""Renew ``envs/intel_gpu/packages.lock``, the Debian packages of `make intel-gpu`.

    python3.11 envs/intel_gpu/lock.py        (``make intel-gpu-lock``)

They are of Debian 12 (bookworm), which changes no more and has the Python of our environment; of
Debian 13 (trixie) the source of PoCL, which takes bookworm's LLVM.
"""

from build import PACKAGES
from debian_lock import renew
from install import run_main

WANTED = (
    "coreutils", "dash", "findutils", "gawk", "grep", "libc-bin", "sed",  # for scripts
    "gzip", "patch", "tar", "xz-utils",
    "python3.11-minimal", "libpython3.11-stdlib",
    # what PoCL and our layer are built with; LLVM and the linker also compile every kernel
    "cmake", "g++", "gcc", "make", "pkgconf",
    "clang-16", "libclang-16-dev", "libclang-cpp16-dev", "llvm-16-dev",
    "ocl-icd-dev", "ocl-icd-opencl-dev", "opencl-c-headers",
)  # fmt: skip


def main() -> None:
    renew(PACKAGES, "intel-gpu", ("bookworm",), WANTED, sources=[("trixie", "pocl")])


if __name__ == "__main__":
    run_main(main)
