/* simd.c -- see simd.h. One text, compiled for three machines: plain C in blocks of LANES floats, which the compiler turns
 * into that machine's vectors. Sums run in LANES partial sums that are added in a fixed order.
 *
 * Formulas: layer norm with the biased variance, as BERT; gelu(x) = x Phi(x) with erf by Abramowitz and Stegun 7.1.26
 * (absolute error 1.5e-7); exp by range reduction to 2^n e^r and a degree-6 polynomial (relative error 2e-7).
 */
#include "kernels/cpu/simd.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

enum { LANES = 16 };

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TABLE JOIN(simd_table_v, SIMD_LEVEL)
#define QUOTE_(a) #a
#define QUOTE(a) QUOTE_(a)

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

static inline void load(float *y, const void *x, enum kdtype dtype, size_t at, size_t n)
{
    if (dtype == K_BF16)
        from_bf16(y, (const uint16_t *)x + at, n);
    else
        memcpy(y, (const float *)x + at, n * sizeof *y);
}

static inline void store(void *y, enum kdtype dtype, size_t at, const float *x, size_t n)
{
    if (dtype == K_BF16)
        to_bf16((uint16_t *)y + at, x, n);
    else
        memcpy((float *)y + at, x, n * sizeof *x);
}

static inline float fold(const float *part)
{
    float half[8], quarter[4];

    for (int i = 0; i < 8; i++)
        half[i] = part[i] + part[i + 8];
    for (int i = 0; i < 4; i++)
        quarter[i] = half[i] + half[i + 4];
    return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

static inline float sum(const float *x, uint32_t n)
{
    float part[LANES] = {0};
    uint32_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            part[j] += x[i + j];
    for (uint32_t j = 0; i < n; i++, j++)
        part[j] += x[i];
    return fold(part);
}

static inline float sum_squares(const float *x, float mean, uint32_t n)
{
    float part[LANES] = {0};
    uint32_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            part[j] += (x[i + j] - mean) * (x[i + j] - mean);
    for (uint32_t j = 0; i < n; i++, j++)
        part[j] += (x[i] - mean) * (x[i] - mean);
    return fold(part);
}

static void layernorm(float *row, const float *gamma, const float *beta, float eps, uint32_t C)
{
    float mean = sum(row, C) / (float)C;
    float scale = 1.0f / sqrtf(sum_squares(row, mean, C) / (float)C + eps);

    for (uint32_t c = 0; c < C; c++)
        row[c] = (row[c] - mean) * scale * gamma[c] + beta[c];
}

static void embed_row(void *y, enum kdtype dy, const void *word, const void *position,
                      const void *segment, enum kdtype dt, const float *gamma, const float *beta,
                      float eps, uint32_t C, float *row)
{
    if (dt == K_BF16) {
        const uint16_t *w = word, *p = position, *s = segment;

        for (uint32_t c = 0; c < C; c++)
            row[c] = bf16_to_float(w[c]) + bf16_to_float(s[c]) + bf16_to_float(p[c]);
    } else {
        const float *w = word, *p = position, *s = segment;

        for (uint32_t c = 0; c < C; c++)
            row[c] = w[c] + s[c] + p[c];
    }
    layernorm(row, gamma, beta, eps, C);
    store(y, dy, 0, row, C);
}

static void add_layernorm_row(void *y, const void *x, const void *r, enum kdtype dtype,
                              const float *gamma, const float *beta, float eps, uint32_t C,
                              float *row)
{
    if (dtype == K_BF16) {
        const uint16_t *a = x, *b = r;

        for (uint32_t c = 0; c < C; c++)
            row[c] = bf16_to_float(a[c]) + bf16_to_float(b[c]);
    } else {
        const float *a = x, *b = r;

        for (uint32_t c = 0; c < C; c++)
            row[c] = a[c] + b[c];
    }
    layernorm(row, gamma, beta, eps, C);
    store(y, dtype, 0, row, C);
}

/* e^x for x <= 0; under -87 it is 0 to fp32's range. */
static inline float exp_negative(float x)
{
    float clamped = x < -87.0f ? -87.0f : x;
    float shifted = clamped * 1.44269504f + 12582912.0f; /* 1.5 * 2^23 rounds to nearest */
    float n = shifted - 12582912.0f;
    float r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    uint32_t bits;
    float scale;

    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits); /* n stands in its lowest bits; a NaN stays one through p */
    bits = (bits << 23) + (127u << 23);
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static inline float gelu_one(float x)
{
    float z = fabsf(x) * 0.70710678f;
    float t = 1.0f / (1.0f + 0.3275911f * z);
    float p = 1.061405429f;
    float tail; /* erfc(z) */

    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    tail = p * t * exp_negative(-z * z);
    return x * (x < 0 ? 0.5f * tail : 1.0f - 0.5f * tail);
}

static void gelu(void *x, enum kdtype dtype, size_t n)
{
    if (dtype == K_BF16) {
        uint16_t *h = x;

        for (size_t i = 0; i < n; i++)
            h[i] = float_to_bf16(gelu_one(bf16_to_float(h[i])));
    } else {
        float *f = x;

        for (size_t i = 0; i < n; i++)
            f[i] = gelu_one(f[i]);
    }
}

/* scores(len) for one query; keys are transposed: (dim, padded). */
static void softmax_row(float *p, const float *q, const float *keys, uint32_t len, uint32_t padded,
                        uint32_t dim)
{
    float largest = -INFINITY, total, poison;

    memset(p, 0, padded * sizeof *p);
    for (uint32_t d = 0; d < dim; d++)
        for (uint32_t j = 0; j < padded; j++)
            p[j] += q[d] * keys[(size_t)d * padded + j];
    for (uint32_t j = 0; j < len; j++)
        largest = p[j] > largest ? p[j] : largest;
    poison = sum(p, len) * 0.0f; /* comparing loses a NaN, and infinite scores with it; adding does not */
    for (uint32_t j = 0; j < padded; j++)
        p[j] = exp_negative(p[j] - largest < 0 ? p[j] - largest : 0);
    total = 1.0f / sum(p, len) + poison;
    for (uint32_t j = 0; j < len; j++)
        p[j] *= total;
}

static void attention(void *y, uint32_t y_stride, const void *q, const void *k, const void *v,
                      uint32_t stride, enum kdtype dtype, uint32_t len, uint32_t dim,
                      float *scratch)
{
    uint32_t padded = (len + LANES - 1) / LANES * LANES;
    float *keys = scratch, *values = keys + (size_t)dim * padded;
    float *p = values + (size_t)dim * padded, *row = p + padded;
    float scale = 1.0f / sqrtf((float)dim);

    memset(keys, 0, (size_t)dim * padded * sizeof *keys);
    for (uint32_t j = 0; j < len; j++) {
        load(row, k, dtype, (size_t)j * stride, dim);
        for (uint32_t d = 0; d < dim; d++)
            keys[(size_t)d * padded + j] = row[d] * scale;
        load(values + (size_t)j * dim, v, dtype, (size_t)j * stride, dim);
    }
    for (uint32_t i = 0; i < len; i++) {
        load(row, q, dtype, (size_t)i * stride, dim);
        softmax_row(p, row, keys, len, padded, dim);
        memset(row, 0, dim * sizeof *row);
        for (uint32_t j = 0; j < len; j++)
            for (uint32_t d = 0; d < dim; d++)
                row[d] += p[j] * values[(size_t)j * dim + d];
        store(y, dtype, (size_t)i * y_stride, row, dim);
    }
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

/* A panel's row as one vector of the compiler's: two registers on v3, four on v2. */
typedef float vector __attribute__((vector_size(SIMD_PANEL * sizeof(float))));

/* Rows together only share the load of the panel; what is added, and in which order, is each row's own. */
#define PANEL_ROWS(rows)                                                                           \
    static void panel_rows_##rows(float *y, const float *x, const float *panel, uint32_t K)        \
    {                                                                                              \
        vector sums[rows] = {{0}}, w;                                                              \
                                                                                                   \
        for (uint32_t k = 0; k < K; k++) {                                                         \
            memcpy(&w, panel + (size_t)k * SIMD_PANEL, sizeof w);                                  \
            for (uint32_t n = 0; n < rows; n++)                                                    \
                sums[n] += x[(size_t)n * K + k] * w;                                               \
        }                                                                                          \
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

static void features_exact(double *f, const float *x, const double *w, double scale, uint32_t K,
                           uint32_t M)
{
    memset(f, 0, M * sizeof *f);
    for (uint32_t k = 0; k < K; k++)
        for (uint32_t m = 0; m < M; m++)
            f[m] += (double)x[k] * w[(size_t)k * M + m];
    for (uint32_t m = 0; m < M; m++)
        f[m] = f[m] > 0 ? f[m] * scale : 0;
}

static float dot(const float *a, const float *b, uint32_t n)
{
    float part[4][LANES] = {{0}};
    uint32_t i = 0;

    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (uint32_t h = 0; h < 4; h++)
            for (uint32_t j = 0; j < LANES; j++)
                part[h][j] += a[i + h * LANES + j] * b[i + h * LANES + j];
    for (; i < n; i++)
        part[0][i % LANES] += a[i] * b[i];
    for (uint32_t j = 0; j < LANES; j++)
        part[0][j] = (part[0][j] + part[1][j]) + (part[2][j] + part[3][j]);
    return fold(part[0]);
}

/* fp16 bits to fp32 by one multiplication: exponents are rebiased by 2^112, subnormals come out right. Infinity and NaN do not
 * occur: embeddings are checked before they are packed. */
static inline float half_to_float(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fff) << 13 | (uint32_t)(h & 0x8000) << 16;
    float f;

    memcpy(&f, &bits, sizeof f);
    return f * 0x1p112f;
}

#if SIMD_LEVEL >= 4
#include <immintrin.h>

static float dot_half(const float *a, const uint16_t *b, uint32_t n)
{
    __m512 s0 = _mm512_setzero_ps(), s1 = s0, s2 = s0, s3 = s0;
    uint32_t i = 0;
    float rest = 0;

#define STEP(s, at)                                                                                \
    s = _mm512_fmadd_ps(_mm512_loadu_ps(a + (at)),                                                 \
                        _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(b + (at)))), s)
    for (; i + 64 <= n; i += 64) {
        STEP(s0, i);
        STEP(s1, i + 16);
        STEP(s2, i + 32);
        STEP(s3, i + 48);
    }
    for (; i + 16 <= n; i += 16)
        STEP(s0, i);
#undef STEP
    for (; i < n; i++)
        rest += a[i] * half_to_float(b[i]);
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3))) + rest;
}
#else
static float dot_half(const float *a, const uint16_t *b, uint32_t n)
{
    float part[LANES] = {0};
    uint32_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            part[j] += a[i + j] * half_to_float(b[i + j]);
    for (uint32_t j = 0; i < n; i++, j++)
        part[j] += a[i] * half_to_float(b[i]);
    return fold(part);
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
    .dot_half = dot_half,
    .to_bf16 = to_bf16,
    .from_bf16 = from_bf16,
};
