/* What the parts of our OpenCL layer share (layer.c). */
#pragma once
#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>
#include <CL/cl_ext.h>
#include <CL/cl_layer.h>

/* The next functions below the layer: PoCL's. */
extern const struct _cl_icd_dispatch *below;

/* Answer a query as OpenCL does: the size to `size_ret`, the value to `value` if it has room. */
cl_int answer(const void *given, size_t bytes, size_t room, void *value, size_t *size_ret);

/* Each part puts its functions in place of those below. */
void identity(struct _cl_icd_dispatch *above);
void prelude(struct _cl_icd_dispatch *above);
void watch(struct _cl_icd_dispatch *above);
