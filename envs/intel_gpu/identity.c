/* What the device says of itself: an Intel GPU of architecture 12.0.0 without XMX, for which
 * OpenVINO's plugin runs its own OpenCL kernels and none of oneDNN's binary ones. */
#include "layer.h"

#include <stdio.h>
#include <string.h>

static const char vendor[] = "Intel(R) Corporation";
/* Not Intel's: the name goes into receipts. */
static const char name[] = "PoCL as an Intel(R) GPU";

/* Those that PoCL lacks or does not name; the prelude has what is behind them. */
static const char *const added[] = {
    "cl_khr_fp16",           "cl_khr_subgroups",
    "cl_intel_subgroups",    "cl_intel_subgroups_short",
    "cl_intel_subgroups_char", "cl_intel_subgroups_long",
    "cl_intel_required_subgroup_size", "cl_intel_unified_shared_memory",
    "cl_intel_device_attribute_query",
};
/* The plugin would ask for a PCI address and a driver's UUID. */
static const char *const hidden[] = {"cl_khr_device_uuid", "cl_khr_pci_bus_info"};

static int among(const char *word, const char *const *list, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!strcmp(word, list[i]))
            return 1;
    return 0;
}

static cl_int extensions(cl_device_id device, size_t room, void *value, size_t *size_ret) {
    char found[8192] = "", text[8192] = "", *rest = found;
    cl_int error = below->clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, sizeof found, found, NULL);
    if (error)
        return error;
    size_t length = 0, count = sizeof added / sizeof *added;
    for (char *word; (word = strtok_r(rest, " ", &rest));)
        if (!among(word, hidden, sizeof hidden / sizeof *hidden) && !among(word, added, count))
            length += (size_t)snprintf(text + length, sizeof text - length, "%s ", word);
    for (size_t i = 0; i < count; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s ", added[i]);
    return answer(text, length + 1, room, value, size_ret);
}

static cl_int device_ids(cl_platform_id platform, cl_device_type type, cl_uint entries,
                         cl_device_id *devices, cl_uint *count) {
    (void)type; /* it asks for GPUs; PoCL's is a CPU */
    return below->clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, entries, devices, count);
}

static cl_int platform_info(cl_platform_id platform, cl_platform_info query, size_t room,
                            void *value, size_t *size_ret) {
    if (query == CL_PLATFORM_VENDOR)
        return answer(vendor, sizeof vendor, room, value, size_ret);
    return below->clGetPlatformInfo(platform, query, room, value, size_ret);
}

#define TEXT(given) return answer(given, strlen(given) + 1, room, value, size_ret)
#define VALUE(type, ...)                                                                           \
    do {                                                                                           \
        const type given_ = __VA_ARGS__;                                                           \
        return answer(&given_, sizeof given_, room, value, size_ret);                              \
    } while (0)

static cl_int device_info(cl_device_id device, cl_device_info query, size_t room, void *value,
                          size_t *size_ret) {
    switch (query) {
    case CL_DEVICE_TYPE: VALUE(cl_device_type, CL_DEVICE_TYPE_GPU);
    case CL_DEVICE_VENDOR_ID: VALUE(cl_uint, 0x8086);
    case CL_DEVICE_VENDOR: TEXT(vendor);
    case CL_DEVICE_NAME: TEXT(name);
    case CL_DRIVER_VERSION: TEXT("26.18.38308.1"); /* one that this OpenVINO takes for recent */
    case CL_DEVICE_VERSION: TEXT("OpenCL 3.0 NEO ");
    case CL_DEVICE_HOST_UNIFIED_MEMORY: VALUE(cl_bool, CL_TRUE);
    case CL_DEVICE_PARTITION_MAX_SUB_DEVICES: VALUE(cl_uint, 0);
    case CL_DEVICE_MAX_WORK_GROUP_SIZE: VALUE(size_t, 256);
    case CL_DEVICE_MAX_COMPUTE_UNITS: VALUE(cl_uint, 32);
    case CL_DEVICE_LOCAL_MEM_SIZE: VALUE(cl_ulong, 65536);
    case CL_DEVICE_HALF_FP_CONFIG:
        VALUE(cl_device_fp_config, CL_FP_DENORM | CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST);
    case CL_DEVICE_IP_VERSION_INTEL: VALUE(cl_uint, 12u << 22); /* 12.0.0 */
    case CL_DEVICE_ID_INTEL: VALUE(cl_uint, 0x9A49);            /* Tiger Lake's */
    case CL_DEVICE_NUM_SLICES_INTEL: VALUE(cl_uint, 1);
    case CL_DEVICE_NUM_SUB_SLICES_PER_SLICE_INTEL: VALUE(cl_uint, 2);
    case CL_DEVICE_NUM_EUS_PER_SUB_SLICE_INTEL: VALUE(cl_uint, 16);
    case CL_DEVICE_NUM_THREADS_PER_EU_INTEL: VALUE(cl_uint, 7);
    case CL_DEVICE_FEATURE_CAPABILITIES_INTEL:
        VALUE(cl_device_feature_capabilities_intel, CL_DEVICE_FEATURE_FLAG_DP4A_INTEL);
    case CL_DEVICE_SUB_GROUP_SIZES_INTEL: {
        static const size_t sizes[] = {8, 16, 32};
        return answer(sizes, sizeof sizes, room, value, size_ret);
    }
    case CL_DEVICE_EXTENSIONS: return extensions(device, room, value, size_ret);
    default: return below->clGetDeviceInfo(device, query, room, value, size_ret);
    }
}

void identity(struct _cl_icd_dispatch *above) {
    above->clGetPlatformInfo = platform_info;
    above->clGetDeviceIDs = device_ids;
    above->clGetDeviceInfo = device_info;
}
