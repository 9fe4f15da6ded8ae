"""One of two sub-groups broadcasts, the other does not, in the tree of `make intel-gpu`.

    python3.11 diverging_sub_groups.py

OpenCL lets a sub-group function stand where not all sub-groups of a work-group come by. Prints what
the 32 work-items have then: 19 in the sub-group that broadcasts, -1 in the other.
"""

import ctypes

KERNEL = b"""
__attribute__((intel_reqd_sub_group_size(16))) __kernel void part(__global int *out) {
    int own = get_local_id(0), got = -1;
    if (get_sub_group_id() == 1)
        got = sub_group_broadcast(own, 3u);
    out[own] = got;
}"""
ALL_DEVICES, COPY_HOST, ITEMS = ctypes.c_uint64(0xFFFFFFFF), ctypes.c_uint64(1 << 5), 32


def main() -> None:
    opencl, pointer = ctypes.CDLL("libOpenCL.so.1"), ctypes.c_void_p

    def make(name: str, *arguments: object) -> ctypes.c_void_p:
        function = getattr(opencl, f"cl{name}")
        function.restype = pointer
        return pointer(function(*arguments, None))

    platform, device = pointer(), pointer()
    opencl.clGetPlatformIDs(1, ctypes.byref(platform), None)
    opencl.clGetDeviceIDs(platform, ALL_DEVICES, 1, ctypes.byref(device), None)
    context = make("CreateContext", None, 1, ctypes.byref(device), None, None)
    queue = make("CreateCommandQueue", context, device, ctypes.c_uint64(0))
    source = ctypes.c_char_p(KERNEL)
    program = make("CreateProgramWithSource", context, 1, ctypes.byref(source), None)
    opencl.clBuildProgram(program, 1, ctypes.byref(device), b"-cl-std=CL3.0", None, None)
    kernel = make("CreateKernel", program, b"part")
    out = (ctypes.c_int * ITEMS)()
    size, items = ctypes.c_size_t(ctypes.sizeof(out)), ctypes.c_size_t(ITEMS)
    buffer = make("CreateBuffer", context, COPY_HOST, size, out)
    opencl.clSetKernelArg(kernel, 0, ctypes.c_size_t(8), ctypes.byref(buffer))
    each = ctypes.byref(items)
    opencl.clEnqueueNDRangeKernel(queue, kernel, 1, None, each, each, 0, None, None)
    nothing = ctypes.c_size_t(0)
    opencl.clEnqueueReadBuffer(queue, buffer, 1, nothing, size, out, 0, None, None)
    print(*out)


if __name__ == "__main__":
    main()
