/* What the device says of itself: an Intel GPU of architecture 12.0.0 without XMX, for which
 * OpenVINO's plugin runs its own OpenCL kernels and none of oneDNN's binary ones. */
#include "layer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Not an Intel name: it goes into receipts. */
static const char name[] = "PoCL as an Intel(R) GPU";

/* For tests: PHIFORGE_WITHOUT has queries (0x1000) that are left to PoCL. */
static int left_out(const char *word) {
    const char *list = getenv("PHIFORGE_WITHOUT"), *found = list ? strstr(list, word) : NULL;
    return found && (!found[strlen(word)] || found[strlen(word)] == ' ');
}

/* With this extension the plugin asks for the architecture, in the queries named ..._INTEL. */
static cl_int extensions(cl_device_id device, size_t room, void *value, size_t *size_ret) {
    char text[8192] = "";
    cl_int error = below->clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, 8000, text, NULL);
    strcat(text, " cl_intel_device_attribute_query");
    return error ? error : answer(text, strlen(text) + 1, room, value, size_ret);
}

static cl_int device_ids(cl_platform_id platform, cl_device_type type, cl_uint entries,
                         cl_device_id *devices, cl_uint *count) {
    (void)type; /* it asks for GPUs; PoCL's is a CPU */
    return below->clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, entries, devices, count);
}

#define VALUE(type, ...)                                                                           \
    do {                                                                                           \
        const type given_ = __VA_ARGS__;                                                           \
        return answer(&given_, sizeof given_, room, value, size_ret);                              \
    } while (0)

static cl_int device_info(cl_device_id device, cl_device_info query, size_t room, void *value,
                          size_t *size_ret) {
    char word[16];
    snprintf(word, sizeof word, "0x%x", query);
    if (left_out(word))
        return below->clGetDeviceInfo(device, query, room, value, size_ret);
    switch (query) {
    case CL_DEVICE_TYPE: VALUE(cl_device_type, CL_DEVICE_TYPE_GPU);
    case CL_DEVICE_VENDOR_ID: VALUE(cl_uint, 0x8086);
    case CL_DEVICE_NAME: return answer(name, sizeof name, room, value, size_ret);
    case CL_DEVICE_MAX_COMPUTE_UNITS: VALUE(cl_uint, 32);
    case CL_DEVICE_IP_VERSION_INTEL: VALUE(cl_uint, 12u << 22); /* 12.0.0 */
    case CL_DEVICE_ID_INTEL: VALUE(cl_uint, 0x9A49);            /* Tiger Lake's */
    case CL_DEVICE_NUM_SLICES_INTEL: VALUE(cl_uint, 1);
    case CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL: VALUE(cl_uint, 2);
    case CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL: VALUE(cl_uint, 16);
    case CL_DEVICE_NUM_THREADS_PER_EU_INTEL: VALUE(cl_uint, 7);
    case CL_DEVICE_FEATURE_CAPABILITIES_INTEL:
        VALUE(cl_device_feature_capabilities_intel, CL_DEVICE_FEATURE_FLAG_DP4A_INTEL);
    case CL_DEVICE_EXTENSIONS: return extensions(device, room, value, size_ret);
    default: return below->clGetDeviceInfo(device, query, room, value, size_ret);
    }
}

void identity(struct _cl_icd_dispatch *above) {
    above->clGetDeviceIDs = device_ids;
    above->clGetDeviceInfo = device_info;
}
