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

/* PoCL 6.0 has no half forms of these; float holds every half. */
#define PHIFORGE(name)                                                                             \
    half __attribute__((overloadable)) name(half x) { return (half)name((float)x); }
PHIFORGE(sub_group_reduce_min)
PHIFORGE(work_group_reduce_add) PHIFORGE(work_group_reduce_max) PHIFORGE(work_group_reduce_min)
#undef PHIFORGE
half __attribute__((overloadable)) sub_group_broadcast(half x, uint from) {
    return (half)sub_group_broadcast((float)x, from);
}
half __attribute__((overloadable)) select(half no, half yes, short which) {
    return which ? yes : no;
}
half __attribute__((overloadable)) select(half no, half yes, ushort which) {
    return which ? yes : no;
}

/* Intel's block reads and writes, of which PoCL 6.0 has those of 32 bits: work-item i has the
 * elements i, i + size of a sub-group, and so on. */
#define PHIFORGE(T, name)                                                                          \
    T __attribute__((overloadable)) intel_sub_group_block_read_##name(const __global T *from) {    \
        return from[get_sub_group_local_id()];                                                     \
    }                                                                                              \
    void __attribute__((overloadable)) intel_sub_group_block_write_##name(__global T *to, T x) {   \
        to[get_sub_group_local_id()] = x;                                                          \
    }                                                                                              \
    PHIFORGE_TWICE(T, name, , 2)                                                                   \
    PHIFORGE_TWICE(T, name, 2, 4)                                                                  \
    PHIFORGE_TWICE(T, name, 4, 8)                                                                  \
    PHIFORGE_TWICE(T, name, 8, 16)
#define PHIFORGE_TWICE(T, name, m, n)                                                              \
    T##n __attribute__((overloadable)) intel_sub_group_block_read_##name##n(                       \
        const __global T *from) {                                                                  \
        return (T##n)(intel_sub_group_block_read_##name##m(from),                                  \
                      intel_sub_group_block_read_##name##m(from + n / 2 * get_max_sub_group_size()));\
    }                                                                                              \
    void __attribute__((overloadable))                                                             \
    intel_sub_group_block_write_##name##n(__global T *to, T##n x) {                                \
        intel_sub_group_block_write_##name##m(to, x.lo);                                           \
        intel_sub_group_block_write_##name##m(to + n / 2 * get_max_sub_group_size(), x.hi);        \
    }
PHIFORGE(uchar, uc)
PHIFORGE(ushort, us)
PHIFORGE(ulong, ul)
#undef PHIFORGE
#undef PHIFORGE_TWICE
#define cl_intel_subgroups_char 1
#define cl_intel_subgroups_long 1
