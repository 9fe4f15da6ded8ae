/* Stands before each kernel of OpenVINO's GPU plugin (prelude.c). Each part says which kernel needs
 * it, and tests/validators/test_intel_gpu.py what happens without it. */
#pragma OPENCL EXTENSION cl_khr_fp16 : enable

/* PoCL says the largest size of a partial sub-group: softmax_gpu_bf would write 48 bytes beyond its
 * buffer. What is left of the work-group is right. */
#undef get_sub_group_size
#undef get_num_sub_groups
static inline uint phiforge_work_group(void) {
    return (uint)(get_local_size(0) * get_local_size(1) * get_local_size(2));
}
static inline uint phiforge_sub_group_size(void) {
    uint most = get_max_sub_group_size();
    return min(phiforge_work_group() - get_sub_group_id() * most, most);
}
static inline uint phiforge_sub_groups(void) {
    uint most = get_max_sub_group_size();
    return (phiforge_work_group() + most - 1) / most;
}
#define get_sub_group_size phiforge_sub_group_size
#define get_num_sub_groups phiforge_sub_groups

/* rms_gpu_bfyx_opt raises negative numbers to 2, which native_powr leaves undefined. */
#undef native_powr
#define PHIFORGE(T)                                                                                \
    static inline T __attribute__((overloadable)) phiforge_powr(T x, T y) {                        \
        return powr(fabs(x), y);                                                                   \
    }
PHIFORGE(float) PHIFORGE(float2) PHIFORGE(float4) PHIFORGE(float8) PHIFORGE(float16)
#undef PHIFORGE
#define native_powr phiforge_powr
