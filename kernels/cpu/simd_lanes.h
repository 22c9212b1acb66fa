/* simd_lanes.h -- vectors of LANES floats that the compiler splits where a machine's registers are
 * shorter, and how they come from memory and go there.
 *
 * Only for the texts that are compiled for three machines (simd.c, simd_training.c): what this
 * becomes depends on SIMD_LEVEL.
 */
#ifndef LEARND_SIMD_LANES_H
#define LEARND_SIMD_LANES_H

#include <stddef.h>
#include <string.h>

#include "kernels/cpu/simd.h"

#if SIMD_LEVEL >= 4
#include <immintrin.h>
#endif

/* The vector types below pass between functions of one file only, all of them inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

enum { LANES = SIMD_LANES };

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define INLINE static inline __attribute__((always_inline))

/* Memory of any alignment and type. */
typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t lanes_i32 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t lanes_u32 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t lanes_u16 __attribute__((vector_size(32), aligned(2), may_alias));

INLINE lanes splat(float x)
{
    return (lanes){0} + x;
}

#if SIMD_LEVEL >= 4
INLINE lanes larger(lanes a, lanes b)
{
    return (lanes)_mm512_max_ps((__m512)a, (__m512)b);
}

INLINE lanes smaller(lanes a, lanes b)
{
    return (lanes)_mm512_min_ps((__m512)a, (__m512)b);
}

INLINE float fold(lanes x)
{
    return _mm512_reduce_add_ps((__m512)x);
}

INLINE float largest_of(lanes x)
{
    return _mm512_reduce_max_ps((__m512)x);
}
#else
INLINE lanes larger(lanes a, lanes b)
{
    lanes_i32 which = a > b;

    return (lanes)(((lanes_i32)a & which) | ((lanes_i32)b & ~which));
}

INLINE lanes smaller(lanes a, lanes b)
{
    return -larger(-a, -b);
}

static inline float fold_array(const float *x)
{
    float half[8], quarter[4];

    for (int i = 0; i < 8; i++)
        half[i] = x[i] + x[i + 8];
    for (int i = 0; i < 4; i++)
        quarter[i] = half[i] + half[i + 4];
    return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

INLINE float fold(lanes x)
{
    float part[LANES];

    memcpy(part, &x, sizeof part);
    return fold_array(part);
}

INLINE float largest_of(lanes x)
{
    float largest = x[0];

    for (int i = 1; i < LANES; i++)
        largest = x[i] > largest ? x[i] : largest;
    return largest;
}
#endif

static inline float bf16_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest even. NaN stays NaN: the quiet bit is set. */
static inline uint16_t float_to_bf16(float f)
{
    uint32_t bits, rounded;

    memcpy(&bits, &f, sizeof bits);
    rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffff) > 0x7f800000 ? bits >> 16 | 0x40 : rounded);
}

INLINE lanes widen(lanes_u16 h)
{
#if SIMD_LEVEL >= 4
    return (lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)h), 16);
#else
    return (lanes)(__builtin_convertvector(h, lanes_u32) << 16);
#endif
}

/* float_to_bf16, LANES at once. */
#if SIMD_LEVEL >= 4
INLINE lanes_u16 narrow(lanes x)
{
    static const lanes_u16 upper[2] = {{1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31}};
    __m512i bits = (__m512i)x,
            rounded = (__m512i)((lanes_u32)x + 0x7fff + ((lanes_u32)x >> 16 & 1));

    rounded = _mm512_mask_or_epi32(rounded, _mm512_cmp_ps_mask((__m512)x, (__m512)x, _CMP_UNORD_Q),
                                   bits, _mm512_set1_epi32(0x400000));
    rounded = _mm512_permutexvar_epi16(_mm512_loadu_si512(upper), rounded);
    return (lanes_u16)_mm512_castsi512_si256(rounded);
}
#else
INLINE lanes_u16 narrow(lanes x)
{
    lanes_u32 bits = (lanes_u32)x;
    lanes_u32 rounded = bits + 0x7fff + (bits >> 16 & 1);
    lanes_u32 nan = (lanes_u32)((bits & 0x7fffffff) > 0x7f800000);

    rounded = (rounded & ~nan) | ((bits | 0x400000) & nan);
    return __builtin_convertvector(rounded >> 16, lanes_u16);
}
#endif

/* n elements of x from `at` on, n <= LANES; the lanes beyond are 0. */
INLINE lanes load(const void *x, enum kdtype dtype, size_t at, uint32_t n)
{
    const uint16_t *h = (const uint16_t *)x + at;
    const float *f = (const float *)x + at;
    lanes y = {0};

    if (n >= LANES)
        return dtype == K_BF16 ? widen(*(const lanes_u16 *)h) : *(const lanes *)f;
    for (uint32_t i = 0; i < n; i++)
        y[i] = dtype == K_BF16 ? bf16_to_float(h[i]) : f[i];
    return y;
}

INLINE void store(void *y, enum kdtype dtype, size_t at, lanes x, uint32_t n)
{
    uint16_t *h = (uint16_t *)y + at;
    float *f = (float *)y + at;

    if (n >= LANES && dtype == K_BF16)
        *(lanes_u16 *)h = narrow(x);
    else if (n >= LANES)
        *(lanes *)f = x;
    for (uint32_t i = 0; i < n && n < LANES; i++) {
        if (dtype == K_BF16)
            h[i] = float_to_bf16(x[i]);
        else
            f[i] = x[i];
    }
}

#endif
