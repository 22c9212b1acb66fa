/* cuda_lanes.h -- what the kernels are written in: values of two types read as fp32, 16 bytes or
 * one value at a time, and sums over a warp in a fixed order.
 *
 * A row belongs to one warp, or a tile of rows to one block, and is added up first to last in an
 * order that nothing but its own length decides: so a row's bits do not depend on the batch. There
 * are no atomics anywhere.
 */
#ifndef LEARND_CUDA_LANES_H
#define LEARND_CUDA_LANES_H

#include <stdint.h>

#include <cuda_runtime.h>

#include "kernels/cuda/cuda_ptx.h"

static constexpr uint32_t LANES = 32;
#define ALL_LANES 0xffffffffu

struct bf16 {
    uint16_t bits;
};

__device__ inline float value(float x)
{
    return x;
}

__device__ inline float value(struct bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

__device__ inline void put(float *y, float x)
{
    *y = x;
}

__device__ inline void put(struct bf16 *y, float x)
{
    y->bits = (uint16_t)bf16_pair(x, 0);
}

/* ---- V values at once: 1, or 16 bytes' worth where addresses are multiples of 16 --------------
 */

template <typename T> __device__ inline void load(float (&x)[1], const T *from)
{
    x[0] = value(*from);
}

__device__ inline void load(float (&x)[4], const float *from)
{
    float4 v = *reinterpret_cast<const float4 *>(from);

    x[0] = v.x;
    x[1] = v.y;
    x[2] = v.z;
    x[3] = v.w;
}

__device__ inline void load(float (&x)[8], const float *from)
{
    float half[4];

    for (int h = 0; h < 2; h++) {
        load(half, from + 4 * h);
        for (int i = 0; i < 4; i++)
            x[4 * h + i] = half[i];
    }
}

__device__ inline void load(float (&x)[8], const struct bf16 *from)
{
    uint4 v = *reinterpret_cast<const uint4 *>(from);
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};

    for (int i = 0; i < 4; i++) {
        x[2 * i] = __uint_as_float(words[i] << 16);
        x[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

template <typename T> __device__ inline void store(T *to, const float (&x)[1])
{
    put(to, x[0]);
}

__device__ inline void store(float *to, const float (&x)[4])
{
    *reinterpret_cast<float4 *>(to) = make_float4(x[0], x[1], x[2], x[3]);
}

__device__ inline void store(float *to, const float (&x)[8])
{
    for (int h = 0; h < 8; h += 4)
        *reinterpret_cast<float4 *>(to + h) = make_float4(x[h], x[h + 1], x[h + 2], x[h + 3]);
}

__device__ inline void store(struct bf16 *to, const float (&x)[8])
{
    *reinterpret_cast<uint4 *>(to) = make_uint4(bf16_pair(x[0], x[1]), bf16_pair(x[2], x[3]),
                                                bf16_pair(x[4], x[5]), bf16_pair(x[6], x[7]));
}

/* ---- a warp -----------------------------------------------------------------------------------
 */

__device__ inline float warp_sum(float x)
{
    for (int step = LANES / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

__device__ inline double warp_sum(double x)
{
    for (int step = LANES / 2; step > 0; step /= 2)
        x += __shfl_xor_sync(ALL_LANES, x, step);
    return x;
}

/* Of numbers; a NaN is left out. */
__device__ inline float warp_max(float x)
{
    for (int step = LANES / 2; step > 0; step /= 2)
        x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, step));
    return x;
}

/* The text of token t: the last whose offset is not above it. */
__device__ inline uint32_t text_of(const uint32_t *offsets, uint32_t B, uint32_t t)
{
    uint32_t low = 0, high = B;

    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;

        if (offsets[middle] <= t)
            low = middle;
        else
            high = middle;
    }
    return low;
}

#endif
