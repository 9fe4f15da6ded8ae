"""Make ``.intel-gpu``, in which OpenVINO's GPU plugin runs on a CPU (`make intel-gpu`).

    python3.11 envs/intel_gpu/build.py .intel-gpu

``tree/`` is unpacked from the Debian packages of ``packages.lock`` (envs/debian.py): a compiler,
LLVM and Python. PoCL, an OpenCL in software, is built in it from Debian's source package with
Debian's patches: Debian's own binary leaves out half precision and Intel's sub-groups. In
``tree/opt/intel-gpu`` are PoCL and our OpenCL layer (layer.c). The plugin itself is that of the
main environment and is not touched. ``kernels.zip``, which checks write, has the kernels that were
compiled for this PoCL. What was fetched stays in ``packages/``; the marker ``.installed`` is
written last and lists what the tree was made from. Run again after any failure.

Python's standard library only: this runs before anything is installed.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import debian
from install import InstallError, run, run_main

HERE = Path(__file__).resolve().parent
PACKAGES = HERE / "packages.lock"
FILES = (
    *(HERE / name for name in ("build.py", "identity.c", "layer.c", "layer.h", "packages.lock")),
    *(HERE / name for name in ("prelude.c", "prelude.cl", "watch.c")),
)

# The instructions that kernels may use are the same on every machine: AVX and F16C (2012).
_POCL = """
set -eu
export CC=gcc CXX=g++
mkdir -p /tmp/pocl
cd /tmp/pocl
tar --extract --strip-components 1 --file /packages/pocl_*.orig.tar.gz
tar --extract --file /packages/pocl_*.debian.tar.xz
for name in $(grep -v '^#' debian/patches/series); do
    patch --silent --strip 1 < "debian/patches/$name"
done
cmake -S . -B build -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/opt/intel-gpu \
    -DCMAKE_INSTALL_LIBDIR=lib \
    -DWITH_LLVM_CONFIG=/usr/bin/llvm-config-16 -DLLC_HOST_CPU=ivybridge \
    -DENABLE_CONFORMANCE=OFF -DENABLE_ICD=ON -DPOCL_ICD_ABSOLUTE_PATH=ON \
    -DENABLE_LOADABLE_DRIVERS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DENABLE_IPO=OFF \
    -DENABLE_HWLOC=OFF -DENABLE_LEVEL0=OFF -DENABLE_SPIRV=OFF -DENABLE_POCLCC=OFF \
    -DENABLE_EXAMPLES=OFF -DENABLE_TESTS=OFF > made.log 2>&1 || { cat made.log; exit 1; }
make --directory build --jobs 2 install > made.log 2>&1 || { tail -n 40 made.log; exit 1; }
"""

_LAYER = """
set -eu
cd /source
gcc -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared -Wa,-I/source \
    -o /opt/intel-gpu/layer.so layer.c identity.c prelude.c watch.c
mkdir -p /opt/intel-gpu/vendors
echo /opt/intel-gpu/lib/libpocl.so.2 > /opt/intel-gpu/vendors/pocl.icd
rm -r /usr/share/doc /usr/share/locale /usr/share/man
"""

_TRY = """
import ctypes
opencl = ctypes.CDLL("libOpenCL.so.1")
platform, device, name = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.create_string_buffer(99)
opencl.clGetPlatformIDs(1, ctypes.byref(platform), None)
opencl.clGetDeviceIDs(platform, ctypes.c_uint64(4), 1, ctypes.byref(device), None)
opencl.clGetDeviceInfo(device, 0x102B, 99, name, None)
print(name.value.decode())
"""


def main() -> None:
    folder = Path(sys.argv[1]).absolute()
    debian.prepare(
        folder, "OpenVINO's GPU plugin", "use a machine with an Intel GPU, row gpu", "tree"
    )
    (folder / "kernels.zip").unlink(missing_ok=True)
    debian.make_tree(folder, PACKAGES, "intel-gpu")
    enter = [*debian.enter(folder)]
    sources = ["--read", f"{HERE}:/source", "--read", f"{folder}/packages:/packages"]
    for script, failure in (
        (_POCL, "PoCL was not built; read above"),
        (_LAYER, "our OpenCL layer was not built; read above"),
    ):
        run([*enter, "--change", *sources, "--", "/bin/sh", "-c", script], failure)
    command = ["OCL_ICD_VENDORS=/opt/intel-gpu/vendors", "OPENCL_LAYERS=/opt/intel-gpu/layer.so"]
    tried = subprocess.run(
        [*enter, "--", "env", *command, "python3.11", "-c", _TRY],
        capture_output=True,
        text=True,
        check=False,
    )
    if "PoCL" not in tried.stdout:
        print(tried.stdout + tried.stderr, file=sys.stderr)
        raise InstallError("PoCL does not answer behind our layer; read above")
    debian.finish(folder, FILES)


if __name__ == "__main__":
    run_main(main)
