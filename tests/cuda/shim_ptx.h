/* shim_ptx.h -- what cuda_ptx.h is made of, in words of the host. It defines that header's guard
 * and is included before everything. Tests only.
 *
 * The layouts of mma() and of load_transposed() are those of the PTX ISA, each lane's share taken
 * from what the other lanes brought: a kernel that mixes up rows and columns fails here. What is
 * not shown is that the instructions are what the ISA says, and how a tensor core rounds within
 * one.
 */
#ifndef LEARND_SHIM_PTX_H
#define LEARND_SHIM_PTX_H
#define LEARND_CUDA_PTX_H

#include "tests/cuda/shim/cuda_runtime.h"

static inline char *shared_memory(void)
{
    return static_cast<char *>(shim_shared);
}

static inline uint32_t shim_bf16(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    if (x != x)
        return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

static inline uint32_t bf16_pair(float low, float high)
{
    return shim_bf16(low) | shim_bf16(high) << 16;
}

static inline float half_value(uint16_t half)
{
    float x = __uint_as_float((uint32_t)(half & 0x7fff) << 13) * 0x1p112f;

    return half & 0x8000 ? -x : x;
}

/* Value `which` (0 lower, 1 upper) of a word. */
static inline float shim_half_of(uint32_t word, uint32_t which)
{
    return __uint_as_float(which ? word & 0xffff0000u : word << 16);
}

struct shim_operands {
    uint32_t a[4], b[2];
};

static inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const struct shim_operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const char *all = static_cast<const char *>(shim_exchange(&mine, sizeof mine));
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = g + i / 2 * 8, column = 2 * t + i % 2;

        for (uint32_t k = 0; k < 16; k++) {
            struct shim_operands left, right;

            memcpy(&left, all + (row % 8 * 4 + k % 8 / 2) * SHIM_SLOT_BYTES, sizeof left);
            memcpy(&right, all + (column * 4 + k % 8 / 2) * SHIM_SLOT_BYTES, sizeof right);
            d[i] += shim_half_of(left.a[row / 8 + k / 8 * 2], k % 2) *
                    shim_half_of(right.b[k / 8], k % 2);
        }
    }
}

static inline void load_transposed(uint32_t (&r)[4], const void *row)
{
    const char *all = static_cast<const char *>(shim_exchange(&row, sizeof row));
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

    shim_expect((uintptr_t)row % 16 == 0, "a row of a matrix that is not at a multiple of 16");
    for (uint32_t i = 0; i < 4; i++) {
        const uint16_t *rows[2];

        for (uint32_t h = 0; h < 2; h++)
            memcpy(&rows[h], all + (8 * i + 2 * t + h) * SHIM_SLOT_BYTES, sizeof rows[h]);
        r[i] = rows[0][g] | (uint32_t)rows[1][g] << 16;
    }
}

#endif
