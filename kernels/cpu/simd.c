/* simd.c -- see simd.h. One text, compiled for three machines, in vectors of LANES floats that the
 * compiler splits where a machine's registers are shorter. Sums run in partial sums that are added
 * in a fixed order.
 *
 * Formulas: layer norm with the biased variance, as BERT; exp by range reduction to 2^n e^r and a
 * degree-6 polynomial (relative error 2e-7); gelu(x) = x Phi(x), in fp32 with erf by Abramowitz and
 * Stegun 7.1.26 (absolute error 1.5e-7), in bf16, whose last bit is worth 2e-3, with Phi by an odd
 * polynomial (absolute error 1.5e-5).
 */
#include "kernels/cpu/simd.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#if SIMD_LEVEL >= 4
#include <immintrin.h>
#endif

/* The vector types below pass between functions of this file only, all of them inlined. */
#pragma GCC diagnostic ignored "-Wpsabi"

enum { LANES = SIMD_LANES };

/* Queries that attention works on at once: their sums stay in registers. */
enum { QUERIES = SIMD_LEVEL >= 4 ? SIMD_QUERIES : SIMD_QUERIES / 2 };

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TABLE JOIN(simd_table_v, SIMD_LEVEL)
#define QUOTE_(a) #a
#define QUOTE(a) QUOTE_(a)
#define INLINE static inline __attribute__((always_inline))

/* Memory of any alignment and type. */
typedef float lanes __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t lanes_i32 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t lanes_u32 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t lanes_u16 __attribute__((vector_size(32), aligned(2), may_alias));

/* A tile of features in fp64: as many rows as leave a register for what they share. */
enum { EXACT = 8, EXACT_ROWS = SIMD_LEVEL >= 4 ? 8 : 4 };
typedef double doubles __attribute__((vector_size(64)));
typedef float exact_floats __attribute__((vector_size(32), aligned(4), may_alias));

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
    return (lanes)(__builtin_convertvector(h, lanes_u32) << 16);
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

static void to_bf16(uint16_t *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_to_bf16(x[i]);
}

static void from_bf16(float *y, const uint16_t *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = bf16_to_float(x[i]);
}

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

/* y(C) = layernorm(row(C)) */
INLINE void layernorm(void *y, enum kdtype dtype, const float *row, const float *gamma,
                      const float *beta, float eps, uint32_t C)
{
    float mean = sum(row, C) / (float)C;
    float scale = 1.0f / sqrtf(sum_squares(row, mean, C) / (float)C + eps);

    for (uint32_t c = 0; c < C; c += LANES) {
        lanes x = load(row, K_F32, c, C - c), g = load(gamma, K_F32, c, C - c);

        store(y, dtype, c, (x - mean) * scale * g + load(beta, K_F32, c, C - c), C - c);
    }
}

static void embed_row(void *y, enum kdtype dy, const void *word, const void *position,
                      const void *segment, enum kdtype dt, const float *gamma, const float *beta,
                      float eps, uint32_t C, float *row)
{
    for (uint32_t c = 0; c < C; c += LANES)
        store(row, K_F32, c,
              load(word, dt, c, C - c) + load(segment, dt, c, C - c) + load(position, dt, c, C - c),
              C - c);
    layernorm(y, dy, row, gamma, beta, eps, C);
}

INLINE void add_layernorm(void *y, const void *x, const void *r, enum kdtype dtype,
                          const float *gamma, const float *beta, float eps, uint32_t C, float *row)
{
    for (uint32_t c = 0; c < C; c += LANES)
        store(row, K_F32, c, load(x, dtype, c, C - c) + load(r, dtype, c, C - c), C - c);
    layernorm(y, dtype, row, gamma, beta, eps, C);
}

static void add_layernorm_row(void *y, const void *x, const void *r, enum kdtype dtype,
                              const float *gamma, const float *beta, float eps, uint32_t C,
                              float *row)
{
    if (dtype == K_BF16)
        add_layernorm(y, x, r, K_BF16, gamma, beta, eps, C, row);
    else
        add_layernorm(y, x, r, K_F32, gamma, beta, eps, C, row);
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

INLINE lanes gelu_exact(lanes x)
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
    return x *
           (lanes)(((lanes_i32)half_tail & negative) | ((lanes_i32)(1.0f - half_tail) & ~negative));
}

/* Phi(x) - 1/2 = x q(x^2), q of degree 9 by least maximum over |x| <= 4.5, where Phi is within
 * 3.4e-6 of 0 or 1. */
INLINE lanes gelu_bf16(lanes x)
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
    return x * (c * q + 0.5f);
}

static void gelu(void *x, enum kdtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;

        if (dtype == K_BF16)
            store(x, K_BF16, i, gelu_bf16(load(x, K_BF16, i, len)), len);
        else
            store(x, K_F32, i, gelu_exact(load(x, K_F32, i, len)), len);
    }
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

/* p(QUERIES,padded) = e^(q keys - row maximum), unnormalised; columns from len on ~0. ret_scale:
 * one over each row's sum. q(QUERIES,dim), keys(dim,padded). */
INLINE void scores(float *p, float *ret_scale, const float *q, const float *keys, uint32_t len,
                   uint32_t padded, uint32_t dim)
{
    static const float edge[2 * LANES] = {[LANES] = -INFINITY, -INFINITY, -INFINITY, -INFINITY,
                                          -INFINITY,           -INFINITY, -INFINITY, -INFINITY,
                                          -INFINITY,           -INFINITY, -INFINITY, -INFINITY,
                                          -INFINITY,           -INFINITY, -INFINITY, -INFINITY};

    for (uint32_t j = 0; j < padded; j += LANES) {
        lanes s[QUERIES], mask = *(const lanes *)(edge + (j + LANES > len ? j + LANES - len : 0));

        for (uint32_t i = 0; i < QUERIES; i++)
            s[i] = mask;
        for (uint32_t d = 0; d < dim; d++) {
            lanes key = *(const lanes *)(keys + (size_t)d * padded + j);

            for (uint32_t i = 0; i < QUERIES; i++)
                s[i] += q[i * dim + d] * key;
        }
        for (uint32_t i = 0; i < QUERIES; i++)
            *(lanes *)(p + (size_t)i * padded + j) = s[i];
    }
    for (uint32_t i = 0; i < QUERIES; i++) {
        float *row = p + (size_t)i * padded, largest;
        lanes most = *(lanes *)row, total = {0};

        for (uint32_t j = LANES; j < padded; j += LANES)
            most = larger(most, *(lanes *)(row + j));
        largest = largest_of(most);
        for (uint32_t j = 0; j < padded; j += LANES) {
            lanes e = exp_negative(*(lanes *)(row + j) - largest);

            *(lanes *)(row + j) = e;
            total += e;
        }
        ret_scale[i] = 1.0f / fold(total);
    }
}

INLINE void attend(void *y, uint32_t y_stride, const void *q, const void *k, const void *v,
                   uint32_t stride, enum kdtype dtype, uint32_t len, uint32_t dim, float *scratch)
{
    uint32_t padded = (len + LANES - 1) / LANES * LANES, wide = (dim + LANES - 1) / LANES * LANES;
    float *keys = scratch, *values = keys + (size_t)dim * padded;
    float *p = values + (size_t)padded * wide, *queries = p + (size_t)QUERIES * padded;
    float scale = 1.0f / sqrtf((float)dim), inverse[QUERIES];

    transpose(keys, k, stride, dtype, len, padded, dim);
    for (uint32_t j = 0; j < len; j++)
        for (uint32_t d = 0; d < dim; d += LANES)
            *(lanes *)(values + (size_t)j * wide + d) =
                load(v, dtype, (size_t)j * stride + d, dim - d);
    for (uint32_t i = 0; i < len; i += QUERIES) {
        for (uint32_t n = 0; n < QUERIES; n++)
            for (uint32_t d = 0; d < dim; d += LANES) {
                size_t at = (size_t)(i + n) * stride + d;
                lanes x = i + n < len ? load(q, dtype, at, dim - d) : splat(0);

                store(queries, K_F32, (size_t)n * dim + d, x * scale, dim - d);
            }
        scores(p, inverse, queries, keys, len, padded, dim);
        for (uint32_t d = 0; d < dim; d += LANES) {
            lanes out[QUERIES] = {{0}};

            for (uint32_t j = 0; j < len; j++) {
                lanes value = *(const lanes *)(values + (size_t)j * wide + d);

                for (uint32_t n = 0; n < QUERIES; n++)
                    out[n] += p[(size_t)n * padded + j] * value;
            }
            for (uint32_t n = 0; n < QUERIES && i + n < len; n++)
                store(y, dtype, (size_t)(i + n) * y_stride + d, out[n] * inverse[n], dim - d);
        }
    }
}

static void attention(void *y, uint32_t y_stride, const void *q, const void *k, const void *v,
                      uint32_t stride, enum kdtype dtype, uint32_t len, uint32_t dim,
                      float *scratch)
{
    if (dtype == K_BF16)
        attend(y, y_stride, q, k, v, stride, K_BF16, len, dim, scratch);
    else
        attend(y, y_stride, q, k, v, stride, K_F32, len, dim, scratch);
}

static void pool_row(float *y, const void *x, enum kdtype dtype, uint32_t len, uint32_t C)
{
    float inverse;

    memset(y, 0, C * sizeof *y);
    for (uint32_t t = 0; t < len; t++) {
        if (dtype == K_BF16)
            for (uint32_t c = 0; c < C; c++)
                y[c] += bf16_to_float(((const uint16_t *)x)[(size_t)t * C + c]);
        else
            for (uint32_t c = 0; c < C; c++)
                y[c] += ((const float *)x)[(size_t)t * C + c];
    }
    inverse = 1.0f / (float)len;
    for (uint32_t c = 0; c < C; c++)
        y[c] *= inverse;
    inverse = 1.0f / sqrtf(sum_squares(y, 0.0f, C));
    for (uint32_t c = 0; c < C; c++)
        y[c] *= inverse;
}

_Static_assert((int)SIMD_PANEL == (int)LANES, "a panel's row is one vector");

/* Rows together only share the load of the panel; what is added, and in which order, is each row's
 * own. */
#define PANEL_ROWS(rows)                                                                           \
    static void panel_rows_##rows(float *y, const float *x, const float *panel, uint32_t K)        \
    {                                                                                              \
        lanes sums[rows] = {{0}};                                                                  \
                                                                                                   \
        for (uint32_t k = 0; k < K; k++)                                                           \
            for (uint32_t n = 0; n < rows; n++)                                                    \
                sums[n] += x[(size_t)n * K + k] * *(const lanes *)(panel + (size_t)k * LANES);     \
        memcpy(y, sums, sizeof sums);                                                              \
    }
PANEL_ROWS(4)
PANEL_ROWS(1)
#undef PANEL_ROWS

static void linear_panel(float *y, const float *x, const float *panel, uint32_t N, uint32_t K)
{
    uint32_t n = 0;

    for (; n + 4 <= N; n += 4)
        panel_rows_4(y + n * SIMD_PANEL, x + (size_t)n * K, panel, K);
    for (; n < N; n++)
        panel_rows_1(y + n * SIMD_PANEL, x + (size_t)n * K, panel, K);
}

static void features_row(float *y, const float *x, const float *w, float scale, uint32_t K,
                         uint32_t M)
{
    memset(y, 0, M * sizeof *y);
    for (uint32_t k = 0; k < K; k++)
        for (uint32_t m = 0; m < M; m++)
            y[m] += x[k] * w[(size_t)k * M + m];
    for (uint32_t m = 0; m < M; m++)
        y[m] = y[m] > 0 ? y[m] * scale : 0;
}

/* f(rows,columns), columns <= EXACT: a tile of f whose sums stay in registers. */
INLINE void exact_tile(double *f, const float *x, const float *w, double scale, uint32_t rows,
                       uint32_t columns, uint32_t K, uint32_t M)
{
    doubles sums[EXACT_ROWS] = {{0}};

    for (uint32_t k = 0; k < K; k++, w += M) {
        exact_floats part = {0};

        if (columns == EXACT)
            part = *(const exact_floats *)w;
        for (uint32_t m = 0; m < columns && columns < EXACT; m++)
            part[m] = w[m];
        for (uint32_t n = 0; n < rows; n++)
            sums[n] += (double)x[(size_t)n * K + k] * __builtin_convertvector(part, doubles);
    }
    for (uint32_t n = 0; n < rows; n++)
        for (uint32_t m = 0; m < columns; m++)
            f[(size_t)n * M + m] = sums[n][m] > 0 ? sums[n][m] * scale : 0;
}

static void features_exact(double *f, const float *x, const float *w, double scale, uint32_t N,
                           uint32_t K, uint32_t M)
{
    for (uint32_t m = 0; m < M; m += EXACT) {
        uint32_t columns = M - m < EXACT ? M - m : EXACT, n = 0;

        for (; n + EXACT_ROWS <= N && columns == EXACT; n += EXACT_ROWS)
            exact_tile(f + (size_t)n * M + m, x + (size_t)n * K, w + m, scale, EXACT_ROWS, EXACT, K,
                       M);
        for (; n < N && columns == EXACT; n++)
            exact_tile(f + (size_t)n * M + m, x + (size_t)n * K, w + m, scale, 1, EXACT, K, M);
        for (; n < N; n++)
            exact_tile(f + (size_t)n * M + m, x + (size_t)n * K, w + m, scale, 1, columns, K, M);
    }
}

static float dot(const float *a, const float *b, uint32_t n)
{
    lanes part[4] = {{0}};
    uint32_t i = 0;

    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (uint32_t h = 0; h < 4; h++)
            part[h] += load(a, K_F32, i + h * LANES, LANES) * load(b, K_F32, i + h * LANES, LANES);
    for (; i < n; i += LANES)
        part[0] += load(a, K_F32, i, n - i) * load(b, K_F32, i, n - i);
    return fold((part[0] + part[1]) + (part[2] + part[3]));
}

#if SIMD_LEVEL >= 4
/* n <= LANES elements of fp16 to fp32; the lanes beyond are 0. */
INLINE lanes load_half(const uint16_t *h, uint32_t n)
{
    lanes_u16 part = {0};

    if (n >= LANES)
        part = *(const lanes_u16 *)h;
    else
        memcpy(&part, h, n * sizeof *h);
    return (lanes)_mm512_cvtph_ps((__m256i)part);
}

/* Rows asked for in advance: examples come from the third cache, which alone is what one text costs
 * (10,000 examples: 328 us without, 272 with 8 or 16, 285 with 64). */
enum { AHEAD = 8 };

/* sums(texts,rows) += LANES products each. texts and rows are constants where this is inlined. */
INLINE void similar_step(lanes *sums, const float *x, const uint16_t *h, uint32_t texts,
                         uint32_t rows, uint32_t C, uint32_t n)
{
    lanes wide[4];

    for (uint32_t r = 0; r < rows; r++) {
        wide[r] = load_half(h + (size_t)r * C, n);
        __builtin_prefetch(h + (size_t)(r + AHEAD) * C);
    }
    for (uint32_t t = 0; t < texts; t++) {
        lanes text = load(x + (size_t)t * C, K_F32, 0, n);

        for (uint32_t r = 0; r < rows; r++)
            sums[t * rows + r] += text * wide[r];
    }
}

INLINE void similar_tile(float *y, size_t y_stride, const float *x, const uint16_t *h,
                         uint32_t texts, uint32_t rows, uint32_t C)
{
    lanes sums[LANES] = {{0}};
    uint32_t c = 0;

    for (; c + LANES <= C; c += LANES)
        similar_step(sums, x + c, h + c, texts, rows, C, LANES);
    if (c < C)
        similar_step(sums, x + c, h + c, texts, rows, C, C - c);
    if (texts * rows == LANES) { /* fold(), all 16 at once and each in fold's own order */
        transpose_tile(sums);
        for (uint32_t half = LANES / 2; half > 0; half /= 2)
            for (uint32_t i = 0; i < half; i++)
                sums[i] += sums[i + half];
        for (uint32_t i = 0; i < LANES; i++)
            y[i / rows * y_stride + i % rows] = sums[0][i];
    } else {
        for (uint32_t i = 0; i < texts * rows; i++)
            y[i / rows * y_stride + i % rows] = fold(sums[i]);
    }
}

/* Four texts share what is read of the examples, which is what this costs; every sum is its own,
 * first to last. */
static void similar(float *y, const float *x, const uint16_t *rows, uint32_t N, uint32_t R,
                    uint32_t C)
{
    for (uint32_t r = 0, step; r < R; r += step) {
        const uint16_t *h = rows + (size_t)r * C;
        uint32_t n = 0;

        step = R - r >= 4 ? 4 : 1;
        for (; n + 4 <= N && step == 4; n += 4)
            similar_tile(y + (size_t)n * R + r, R, x + (size_t)n * C, h, 4, 4, C);
        for (; n < N && step == 4; n++)
            similar_tile(y + (size_t)n * R + r, R, x + (size_t)n * C, h, 1, 4, C);
        for (; n < N; n++)
            similar_tile(y + (size_t)n * R + r, R, x + (size_t)n * C, h, 1, 1, C);
    }
}
#else
/* fp16 bits to fp32 by one multiplication: exponents are rebiased by 2^112, subnormals come out
 * right. Infinity and NaN do not occur: embeddings are checked before they are packed. */
static inline float half_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13 | (uint32_t)(h & 0x8000) << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f * 0x1p112f;
}

/* In an array, and not inlined: GCC tears it apart otherwise (4 times slower). 16 registers hold no
 * tile of vectors of 16. */
static __attribute__((noinline)) float dot_half(const float *a, const uint16_t *b, uint32_t n)
{
    float part[LANES] = {0};
    uint32_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            part[j] += a[i + j] * half_to_float(b[i + j]);
    for (uint32_t j = 0; i < n; i++, j++)
        part[j] += a[i] * half_to_float(b[i]);
    return fold_array(part);
}

static void similar(float *y, const float *x, const uint16_t *rows, uint32_t N, uint32_t R,
                    uint32_t C)
{
    for (uint32_t r = 0; r < R; r++)
        for (uint32_t n = 0; n < N; n++)
            y[(size_t)n * R + r] = dot_half(x + (size_t)n * C, rows + (size_t)r * C, C);
}
#endif

const struct simd_table TABLE = {
    .name = "x86-64-v" QUOTE(SIMD_LEVEL),
    .embed_row = embed_row,
    .add_layernorm_row = add_layernorm_row,
    .gelu = gelu,
    .attention = attention,
    .pool_row = pool_row,
    .linear_panel = linear_panel,
    .features_row = features_row,
    .features_exact = features_exact,
    .dot = dot,
    .similar = similar,
    .to_bf16 = to_bf16,
    .from_bf16 = from_bf16,
};
