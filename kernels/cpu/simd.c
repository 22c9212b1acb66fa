/* simd.c -- see simd.h. One text, compiled for three machines, in vectors of LANES floats that the
 * compiler splits where a machine's registers are shorter. Sums run in partial sums that are added
 * in a fixed order.
 *
 * Layer norm is with the biased variance, as BERT's; gelu(x) = x Phi(x). For Phi and exp see
 * simd_math.h.
 */
#include "kernels/cpu/simd.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "kernels/cpu/simd_math.h"
#include "kernels/cpu/simd_training.h"

/* Queries that attention works on at once: their sums stay in registers. */
enum { QUERIES = SIMD_LEVEL >= 4 ? SIMD_QUERIES : SIMD_QUERIES / 2 };

#define TABLE JOIN(simd_table_v, SIMD_LEVEL)
#define QUOTE_(a) #a
#define QUOTE(a) QUOTE_(a)

/* A tile of features in fp64: as many rows as leave a register for what they share. */
enum { EXACT = 8, EXACT_ROWS = SIMD_LEVEL >= 4 ? 8 : 4 };
typedef double doubles __attribute__((vector_size(64)));
typedef float exact_floats __attribute__((vector_size(32), aligned(4), may_alias));

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

static void gelu(void *x, enum kdtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;

        if (dtype == K_BF16)
            store(x, K_BF16, i, gelu_of(load(x, K_BF16, i, len), K_BF16), len);
        else
            store(x, K_F32, i, gelu_of(load(x, K_F32, i, len), K_F32), len);
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
    .training = &JOIN(simd_training_v, SIMD_LEVEL),
};
