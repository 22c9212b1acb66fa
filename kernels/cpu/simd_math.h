/* simd_math.h -- what the loops over lanes share: sums in a fixed order, exp, Phi, transposes. See
 * simd_lanes.h.
 *
 * Formulas: exp by range reduction to 2^n e^r and a degree-6 polynomial (relative error 2e-7); Phi
 * in fp32 with erf by Abramowitz and Stegun 7.1.26 (absolute error 1.5e-7), in bf16, whose last bit
 * is worth 2e-3, by an odd polynomial (absolute error 1.5e-5).
 */
#ifndef LEARND_SIMD_MATH_H
#define LEARND_SIMD_MATH_H

#include "kernels/cpu/simd_lanes.h"

INLINE float sum(const float *x, uint32_t n)
{
    lanes part[4] = {{0}};
    uint32_t i = 0;

    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (uint32_t h = 0; h < 4; h++)
            part[h] += load(x, K_F32, i + h * LANES, LANES);
    for (; i < n; i += LANES)
        part[0] += load(x, K_F32, i, n - i);
    return fold((part[0] + part[1]) + (part[2] + part[3]));
}

INLINE float sum_squares(const float *x, float mean, uint32_t n)
{
    lanes part[4] = {{0}}, d;
    float rest = 0;
    uint32_t i = 0;

    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (uint32_t h = 0; h < 4; h++) {
            d = load(x, K_F32, i + h * LANES, LANES) - mean;
            part[h] += d * d;
        }
    for (; i + LANES <= n; i += LANES) {
        d = load(x, K_F32, i, LANES) - mean;
        part[0] += d * d;
    }
    for (; i < n; i++)
        rest += (x[i] - mean) * (x[i] - mean);
    return fold((part[0] + part[1]) + (part[2] + part[3])) + rest;
}

/* e^x for x <= 0; under -87 it is 0 to fp32's range. A NaN stays one: larger() and smaller() answer
 * their second argument where they cannot compare. */
INLINE lanes exp_negative(lanes x)
{
    lanes clamped = larger(splat(-87.0f), x);
    lanes shifted = clamped * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 rounds to nearest */
    lanes n = shifted - 12582912.0f;
    lanes r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    lanes p = splat(1.9875691500e-4f);

    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    /* n stands in the lowest bits of `shifted`; a NaN stays one through p. */
    return p * (lanes)(((lanes_u32)shifted << 23) + (127u << 23));
}

/* Phi(x), absolute error 8e-8. */
INLINE lanes phi_exact(lanes x)
{
    lanes_i32 negative = x < 0;
    lanes z = (lanes)((lanes_i32)x & 0x7fffffff) * 0.70710678f;
    lanes t = 1.0f / (1.0f + 0.3275911f * z);
    lanes p = splat(1.061405429f), half_tail;

    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    half_tail = 0.5f * p * t * exp_negative(-z * z); /* erfc(z) / 2 */
    return (lanes)(((lanes_i32)half_tail & negative) | ((lanes_i32)(1.0f - half_tail) & ~negative));
}

/* Phi(x) - 1/2 = x q(x^2), q of degree 9 by least maximum over |x| <= 4.5, where Phi is within
 * 3.4e-6 of 0 or 1. */
INLINE lanes phi_bf16(lanes x)
{
    lanes c = larger(splat(-4.5f), smaller(splat(4.5f), x)), t = c * c;
    lanes q = splat(-1.726325436e-12f);

    q = q * t + 2.022436790e-10f;
    q = q * t - 1.056708962e-08f;
    q = q * t + 3.278920280e-07f;
    q = q * t - 6.813725133e-06f;
    q = q * t + 1.017340588e-04f;
    q = q * t - 1.142715152e-03f;
    q = q * t + 9.891773929e-03f;
    q = q * t - 6.642068012e-02f;
    q = q * t + 3.989246720e-01f;
    return c * q + 0.5f;
}

INLINE lanes phi_of(lanes x, enum kdtype dtype)
{
    return dtype == K_BF16 ? phi_bf16(x) : phi_exact(x);
}

INLINE lanes gelu_of(lanes x, enum kdtype dtype)
{
    return x * phi_of(x, dtype);
}

/* A 16 by 16 block in place: halves, quarters, pairs, neighbours change places. */
#if SIMD_LEVEL >= 4
#define LOW(s, l) ((l) & (s) ? LANES + (l) - (s) : (l))
#define HIGH(s, l) ((l) & (s) ? LANES + (l) : (l) + (s))
#define LANES_OF(f, s)                                                                             \
    {                                                                                              \
        f(s, 0), f(s, 1), f(s, 2), f(s, 3), f(s, 4), f(s, 5), f(s, 6), f(s, 7), f(s, 8), f(s, 9),  \
            f(s, 10), f(s, 11), f(s, 12), f(s, 13), f(s, 14), f(s, 15)                             \
    }
#define EXCHANGE(s)                                                                                \
    for (int i = 0; i < LANES; i++)                                                                \
        if ((i & (s)) == 0) {                                                                      \
            lanes a = tile[i], b = tile[i + (s)];                                                  \
                                                                                                   \
            tile[i] = __builtin_shuffle(a, b, (lanes_i32)LANES_OF(LOW, s));                        \
            tile[i + (s)] = __builtin_shuffle(a, b, (lanes_i32)LANES_OF(HIGH, s));                 \
        }

INLINE void transpose_tile(lanes *tile){EXCHANGE(8) EXCHANGE(4) EXCHANGE(2) EXCHANGE(1)}
#undef EXCHANGE
#undef LANES_OF
#undef HIGH
#undef LOW
#else
INLINE void transpose_tile(lanes *tile)
{
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < i; j++) {
            float x = tile[i][j];

            tile[i][j] = tile[j][i];
            tile[j][i] = x;
        }
}
#endif

/* keys(dim,padded): the transpose of k(len,dim), columns from len on 0. */
INLINE void transpose(float *keys, const void *k, uint32_t stride, enum kdtype dtype, uint32_t len,
                      uint32_t padded, uint32_t dim)
{
    for (uint32_t j = 0; j < padded; j += LANES)
        for (uint32_t d = 0; d < dim; d += LANES) {
            uint32_t rows = dim - d < LANES ? dim - d : LANES;
            lanes tile[LANES];

            for (uint32_t i = 0; i < LANES; i++)
                tile[i] =
                    j + i < len ? load(k, dtype, (size_t)(j + i) * stride + d, dim - d) : splat(0);
            transpose_tile(tile);
            for (uint32_t i = 0; i < rows; i++)
                *(lanes *)(keys + (size_t)(d + i) * padded + j) = tile[i];
        }
}

#endif
