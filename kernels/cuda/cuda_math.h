/* cuda_math.h -- gelu and dropout as the cpu backend has them: exact, and bit for bit. */
#ifndef LEARND_CUDA_MATH_H
#define LEARND_CUDA_MATH_H

#include <stdint.h>

#include <cuda_runtime.h>

/* ---- exact gelu -------------------------------------------------------------------------------
 */

__device__ inline float gelu_of(float x)
{
    return x * normcdff(x);
}

/* Phi(x) + x phi(x) */
__device__ inline float gelu_slope(float x)
{
    return normcdff(x) + x * 0.39894228f * expf(-0.5f * x * x);
}

/* ---- dropout ----------------------------------------------------------------------------------
 */

/* A place in the network, as kernels get it. threshold 0: all is kept. */
struct dropout_site {
    const uint64_t *rows;
    uint32_t site, threshold;
    float scale;
};

/* The two words of one row. */
struct dropout_row {
    uint32_t a, b, threshold;
    float scale;
};

/* SplitMix64's finisher over key and site; bit for bit that of the cpu backend. */
__device__ inline struct dropout_row dropout_of(const struct dropout_site &d, uint32_t n)
{
    struct dropout_row row = {0, 0, d.threshold, d.scale};
    uint64_t z;

    if (d.threshold == 0)
        return row;
    z = d.rows[n] + (d.site + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    row.a = (uint32_t)z;
    row.b = (uint32_t)(z >> 32);
    return row;
}

__device__ inline float drop(float x, uint32_t c, const struct dropout_row &d)
{
    uint32_t h = c * 0x9e3779b9u + d.a;

    if (d.threshold == 0)
        return x;
    h = (h ^ h >> 16) * 0x21f0aaadu + d.b;
    h = (h ^ h >> 15) * 0x735a2d97u;
    h ^= h >> 15;
    return h >= d.threshold ? x * d.scale : 0;
}

#endif
