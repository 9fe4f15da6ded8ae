/* An OpenCL layer (OPENCL_LAYERS of the ICD loader) over PoCL, for OpenVINO's GPU plugin: what a
 * device says of itself (identity.c), what stands before each kernel's source (prelude.c), and a
 * diagnostic, which kernel writes beyond its buffers (watch.c).
 *
 * It is for the tree of `make intel-gpu` only, where no device of the machine is. It gives up where
 * there is one, so that no real GPU is ever spoken for. */
#include "layer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct _cl_icd_dispatch *below;
static struct _cl_icd_dispatch above;

cl_int answer(const void *given, size_t bytes, size_t room, void *value, size_t *size_ret) {
    if (size_ret)
        *size_ret = bytes;
    if (!value)
        return CL_SUCCESS;
    if (room < bytes)
        return CL_INVALID_VALUE;
    memcpy(value, given, bytes);
    return CL_SUCCESS;
}

cl_int clGetLayerInfo(cl_layer_info name, size_t room, void *value, size_t *size_ret) {
    static const cl_layer_api_version version = CL_LAYER_API_VERSION_100;
    static const char title[] = "phiforge";
    if (name == CL_LAYER_API_VERSION)
        return answer(&version, sizeof version, room, value, size_ret);
    if (name == CL_LAYER_NAME)
        return answer(title, sizeof title, room, value, size_ret);
    return CL_INVALID_VALUE;
}

/* How many kernels were given to PoCL; the check asks, as proof that something ran there. */
unsigned long phiforge_kernels;

static cl_int run(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                  const size_t *offset, const size_t *global, const size_t *local, cl_uint waits,
                  const cl_event *wait, cl_event *event) {
    __atomic_add_fetch(&phiforge_kernels, 1, __ATOMIC_RELAXED);
    return below->clEnqueueNDRangeKernel(queue, kernel, dimensions, offset, global, local, waits,
                                         wait, event);
}

cl_int clInitLayer(cl_uint entries, const struct _cl_icd_dispatch *target, cl_uint *entries_ret,
                   const struct _cl_icd_dispatch **layer_ret) {
    if (access("/dev/dri", F_OK) == 0) {
        fputs("phiforge's OpenCL layer: this machine's GPU is here (/dev/dri); not loaded\n", stderr);
        return CL_INVALID_OPERATION;
    }
    size_t known = sizeof above / sizeof(void *);
    cl_uint count = entries < known ? entries : (cl_uint)known;
    below = target;
    memcpy(&above, target, count * sizeof(void *));
    above.clEnqueueNDRangeKernel = run;
    identity(&above);
    prelude(&above);
    watch(&above);
    *entries_ret = count;
    *layer_ret = &above;
    return CL_SUCCESS;
}
