# Builds intel-npu-acceleration-library 1.4.0 on any Linux, against the openvino 2024.4.0 wheel of
# the same environment. Its own CMakeLists.txt knows only Ubuntu and downloads a toolkit; nothing
# of it is edited here, every line is one of CMake's standard overrides. envs/npu_library/build.py
# hands it over as CMAKE_TOOLCHAIN_FILE and sets NPU_LIBRARY_OPENVINO to the wheel's package.

# No download: the URL is never looked at once FetchContent has a source folder, here an empty one
# (its only use is to copy libraries out of it; build.py links the wheel's instead).
set(OV_LIBRARY_URL "none")
set(FETCHCONTENT_SOURCE_DIR_OPENVINO "$ENV{NPU_LIBRARY_EMPTY}" CACHE PATH "")
set(OpenVINO_DIR "$ENV{NPU_LIBRARY_OPENVINO}/cmake" CACHE PATH "")

# The manylinux2014 wheel was built with the old C++ ABI, and its headers need C++17.
set(CMAKE_CXX_FLAGS_INIT "-D_GLIBCXX_USE_CXX11_ABI=0")
set(CMAKE_CXX_STANDARD 17 CACHE STRING "")

# The library asks for -march=native and -Werror. What stands after <FLAGS> wins: AVX2 and F16C,
# which its own intrinsics need (and which its Windows wheels are built for), and no more, so that
# the same bytes run on every x86-64-v3 machine; warnings of newer compilers stay warnings.
set(CMAKE_CXX_COMPILE_OBJECT
    "<CMAKE_CXX_COMPILER> <DEFINES> <INCLUDES> <FLAGS> -march=x86-64-v3 -Wno-error -o <OBJECT> -c <SOURCE>")
