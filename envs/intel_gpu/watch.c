/* A diagnostic, with PHIFORGE_WATCH set: which kernel writes beyond its buffers. Every buffer of
 * unified memory gets a pattern behind it, which is looked at after each kernel. */
#include "layer.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BEHIND = 4096, PATTERN = 0xA5 };

static struct buffer {
    struct buffer *next;
    unsigned char *start;
    size_t bytes;
} *buffers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static clHostMemAllocINTEL_fn alloc_host;
static clDeviceMemAllocINTEL_fn alloc_device;
static clSharedMemAllocINTEL_fn alloc_shared;
static clMemFreeINTEL_fn free_below;
static clGetMemAllocInfoINTEL_fn info_below;

static cl_api_clEnqueueNDRangeKernel run_counted;

static void *watched(unsigned char *start, size_t bytes) {
    struct buffer *buffer = start ? malloc(sizeof *buffer) : NULL;
    if (buffer) {
        memset(start + bytes, PATTERN, BEHIND);
        pthread_mutex_lock(&lock);
        *buffer = (struct buffer){buffers, start, bytes};
        buffers = buffer;
        pthread_mutex_unlock(&lock);
    }
    return start;
}

static void *host(cl_context context, const cl_mem_properties_intel *properties, size_t bytes,
                  cl_uint alignment, cl_int *error) {
    return watched(alloc_host(context, properties, bytes + BEHIND, alignment, error), bytes);
}

static void *device(cl_context context, cl_device_id on, const cl_mem_properties_intel *properties,
                    size_t bytes, cl_uint alignment, cl_int *error) {
    return watched(alloc_device(context, on, properties, bytes + BEHIND, alignment, error), bytes);
}

static void *shared(cl_context context, cl_device_id on, const cl_mem_properties_intel *properties,
                    size_t bytes, cl_uint alignment, cl_int *error) {
    return watched(alloc_shared(context, on, properties, bytes + BEHIND, alignment, error), bytes);
}

static cl_int release(cl_context context, void *start) {
    pthread_mutex_lock(&lock);
    for (struct buffer **at = &buffers; *at; at = &(*at)->next)
        if ((*at)->start == start) {
            struct buffer *gone = *at;
            *at = gone->next;
            free(gone);
            break;
        }
    pthread_mutex_unlock(&lock);
    return free_below(context, start);
}

static cl_int info(cl_context context, const void *start, cl_mem_info_intel query, size_t room,
                   void *value, size_t *size_ret) {
    cl_int error = info_below(context, start, query, room, value, size_ret);
    if (!error && value && query == CL_MEM_ALLOC_SIZE_INTEL)
        *(size_t *)value -= BEHIND;
    return error;
}

static void *function(cl_platform_id platform, const char *name) {
    void *found = below->clGetExtensionFunctionAddressForPlatform(platform, name);
#define REPLACE(text, next, ours)                                                                  \
    if (!strcmp(name, text)) {                                                                     \
        next = found;                                                                              \
        return ours;                                                                               \
    }
    REPLACE("clHostMemAllocINTEL", alloc_host, host)
    REPLACE("clDeviceMemAllocINTEL", alloc_device, device)
    REPLACE("clSharedMemAllocINTEL", alloc_shared, shared)
    REPLACE("clMemFreeINTEL", free_below, release)
    REPLACE("clGetMemAllocInfoINTEL", info_below, info)
    return found;
}

static void look(cl_kernel kernel) {
    for (struct buffer *buffer = buffers; buffer; buffer = buffer->next) {
        unsigned char *behind = buffer->start + buffer->bytes;
        size_t first = 0, last = BEHIND;
        while (first < BEHIND && behind[first] == PATTERN)
            first++;
        if (first == BEHIND)
            continue;
        while (behind[last - 1] == PATTERN)
            last--;
        char name[256] = "?";
        below->clGetKernelInfo(kernel, CL_KERNEL_FUNCTION_NAME, sizeof name, name, NULL);
        fprintf(stderr, "watch: %s wrote behind a buffer of %zu bytes, at +%zu to +%zu\n", name,
                buffer->bytes, first, last);
        memset(behind, PATTERN, BEHIND);
    }
}

static cl_int run(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions,
                  const size_t *offset, const size_t *global, const size_t *local, cl_uint waits,
                  const cl_event *wait, cl_event *event) {
    cl_int error = run_counted(queue, kernel, dimensions, offset, global, local, waits, wait, event);
    below->clFinish(queue);
    pthread_mutex_lock(&lock);
    look(kernel);
    pthread_mutex_unlock(&lock);
    return error;
}

void watch(struct _cl_icd_dispatch *above) {
    if (!getenv("PHIFORGE_WATCH"))
        return;
    run_counted = above->clEnqueueNDRangeKernel;
    above->clGetExtensionFunctionAddressForPlatform = function;
    above->clEnqueueNDRangeKernel = run;
}
