/* shim_ptx.h -- what cuda_ptx.h is made of, in words of the host. It defines that header's guard
 * and is included before everything. Tests only.
 *
 * The layouts of mma() and of the two loads of matrices are those of the PTX ISA, each lane's share
 * taken from what the other lanes brought: a kernel that mixes up rows and columns fails here. What
 * is not shown is that the instructions are what the ISA says, and how a tensor core rounds within
 * one.
 */
#ifndef LEARND_SHIM_PTX_H
#define LEARND_SHIM_PTX_H
#define LEARND_CUDA_PTX_H

#include "tests/cuda/shim/cuda_runtime.h"

extern "C" {
#include "tests/cuda/shim_copies.h"
}

#define __launch_bounds__(...)

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

/* The word at `at` of what lane `lane` brought. */
static inline uint32_t shim_word(const char *all, uint32_t lane, size_t at)
{
    uint32_t word;

    memcpy(&word, all + lane * SHIM_SLOT_BYTES + at, sizeof word);
    return word;
}

static inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1)
{
    const struct shim_operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const char *all = static_cast<const char *>(shim_exchange(&mine, sizeof mine));
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;

    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t row = g + i / 2 * 8, column = 2 * t + i % 2;

        for (uint32_t k = 0; k < 16; k++) {
            const size_t a_at = offsetof(struct shim_operands, a) + 4 * (row / 8 + k / 8 * 2);
            const size_t b_at = offsetof(struct shim_operands, b) + 4 * (k / 8);

            d[i] += shim_half_of(shim_word(all, row % 8 * 4 + k % 8 / 2, a_at), k % 2) *
                    shim_half_of(shim_word(all, column * 4 + k % 8 / 2, b_at), k % 2);
        }
    }
}

/* The rows that the warp's lanes name, 8 of each of four matrices. */
static inline void shim_rows(const uint16_t *(&rows)[32], const void *row)
{
    const void *all = shim_exchange(&row, sizeof row);

    shim_expect((uintptr_t)row % 16 == 0, "a row of a matrix that is not at a multiple of 16");
    for (uint32_t lane = 0; lane < 32; lane++)
        memcpy(&rows[lane], static_cast<const char *>(all) + lane * SHIM_SLOT_BYTES,
               sizeof rows[lane]);
}

static inline void load_matrices(uint32_t (&r)[4], const void *row)
{
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const uint16_t *rows[32];

    shim_rows(rows, row);
    for (uint32_t i = 0; i < 4; i++)
        r[i] = rows[8 * i + g][2 * t] | (uint32_t)rows[8 * i + g][2 * t + 1] << 16;
}

static inline void load_transposed(uint32_t (&r)[4], const void *row)
{
    const uint32_t g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    const uint16_t *rows[32];

    shim_rows(rows, row);
    for (uint32_t i = 0; i < 4; i++)
        r[i] = rows[8 * i + 2 * t][g] | (uint32_t)rows[8 * i + 2 * t + 1][g] << 16;
}

/* ---- copies that arrive later -----------------------------------------------------------------
 */

static inline void copy_16(void *to, const void *from, bool there)
{
    shim_copy_later(to, there ? from : NULL, 16);
}

static inline void copy_8(void *to, const void *from, bool there)
{
    shim_copy_later(to, there ? from : NULL, 8);
}

static inline void copies_wait(void)
{
    shim_copies_wait();
}

#endif
