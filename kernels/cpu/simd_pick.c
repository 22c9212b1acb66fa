/* simd_pick.c -- chooses the compiled level that this machine can run. */
#include "kernels/cpu/simd.h"

const struct simd_table *simd_pick(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return &simd_table_v4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c"))
        return &simd_table_v3;
    return &simd_table_v2;
}
