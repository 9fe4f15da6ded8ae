"""Intel's NPU compiler, with whichever installation of it this machine has.

Two ways lead to the same compiler. `phiforge.npu_compiler.wine`: the one in OpenVINO's Windows
wheel, installed by ``make npu-compiler``. `phiforge.npu_compiler.native`: the libraries of
OpenVINO's Linux archive, named in the configuration (``npu_compiler``).
"""
