/* simd_training.c -- see simd_training.h. One text, compiled for three machines.
 *
 * Derivatives, with xhat = (s - mean) / deviation and g = dy gamma:
 *   layer norm   ds = (g - mean(g) - xhat mean(g xhat)) / deviation
 *   gelu         dx = dy (Phi(x) + x phi(x))
 *   attention    dV = P^T dY, dP = dY V^T, dS = P (dP - sum_j dP P), dQ = dS K, dK = dS^T Q, with
 *                1/sqrt(dim) in Q and dQ; everything of one head in fp32
 */
#include "kernels/cpu/simd_training.h"

#include <math.h>

#include "kernels/cpu/simd_math.h"

enum { AHEAD = 4 }; /* rows of a matrix asked for in advance: tiles are narrower than it */
enum { TILE_ROWS = SIMD_LEVEL >= 4 ? 8 : 4 };

/* ---- dropout --------------------------------------------------------------------------------- */

/* x where element c .. c+LANES of the row is kept, times scale. The hash of an element is that of
 * its counter: multiplications and shifts found by search for the least bias (C. Wellons and
 * others, "hash prospector"), between them the row's second word. */
INLINE lanes drop(lanes x, uint32_t c, const struct simd_dropout *d)
{
    static const lanes_u32 counter = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lanes_u32 h = (counter + c) * 0x9e3779b9u + d->a;

    if (d->threshold == 0)
        return x;
    h = (h ^ h >> 16) * 0x21f0aaadu + d->b;
    h = (h ^ h >> 15) * 0x735a2d97u;
    h ^= h >> 15;
    return (lanes)((lanes_u32)(x * d->scale) & (lanes_u32)(h >= d->threshold));
}

/* ---- layer norm ------------------------------------------------------------------------------ */

/* stats, and the mean and 1/deviation of row(C) */
INLINE void moments(float *stats, const float *row, float eps, uint32_t C)
{
    stats[0] = sum(row, C) / (float)C;
    stats[1] = 1.0f / sqrtf(sum_squares(row, stats[0], C) / (float)C + eps);
}

static void embed_row(const struct simd_norm *norm, void *y, void *s, float *stats,
                      const float *word, const float *position, const float *segment,
                      const struct simd_dropout *dropout, float *row)
{
    uint32_t C = norm->C;

    for (uint32_t c = 0; c < C; c += LANES) {
        lanes x = load(word, K_F32, c, C - c) + load(segment, K_F32, c, C - c) +
                  load(position, K_F32, c, C - c);

        store(row, K_F32, c, x, C - c);
        store(s, norm->dtype, c, x, C - c);
    }
    moments(stats, row, norm->eps, C);
    for (uint32_t c = 0; c < C; c += LANES) {
        lanes x = (load(row, K_F32, c, C - c) - stats[0]) * stats[1];

        x = x * load(norm->gamma, K_F32, c, C - c) + load(norm->beta, K_F32, c, C - c);
        store(y, norm->dtype, c, drop(x, c, dropout), C - c);
    }
}

INLINE void add_layernorm(const struct simd_norm *norm, enum kdtype dtype, void *y, void *s,
                          float *stats, const void *x, const void *residual,
                          const struct simd_dropout *dropout, float *row)
{
    uint32_t C = norm->C;

    for (uint32_t c = 0; c < C; c += LANES) {
        lanes sum_of = drop(load(x, dtype, c, C - c), c, dropout) + load(residual, dtype, c, C - c);

        store(row, K_F32, c, sum_of, C - c);
        store(s, dtype, c, sum_of, C - c);
    }
    moments(stats, row, norm->eps, C);
    for (uint32_t c = 0; c < C; c += LANES) {
        lanes xhat = (load(row, K_F32, c, C - c) - stats[0]) * stats[1];

        store(y, dtype, c,
              xhat * load(norm->gamma, K_F32, c, C - c) + load(norm->beta, K_F32, c, C - c), C - c);
    }
}

static void add_layernorm_row(const struct simd_norm *norm, void *y, void *s, float *stats,
                              const void *x, const void *residual,
                              const struct simd_dropout *dropout, float *row)
{
    if (norm->dtype == K_BF16)
        add_layernorm(norm, K_BF16, y, s, stats, x, residual, dropout, row);
    else
        add_layernorm(norm, K_F32, y, s, stats, x, residual, dropout, row);
}

INLINE void layernorm_back(const struct simd_norm *norm, enum kdtype dtype, float *ds,
                           float *dgamma, float *dbeta, const void *dy, const void *dy2,
                           const void *s, const float *stats, const struct simd_dropout *dropout)
{
    lanes total = {0}, total_xhat = {0};
    uint32_t C = norm->C;
    float mean, mean_xhat;

    for (uint32_t c = 0; c < C; c += LANES) {
        uint32_t n = C - c;
        lanes d = load(dy, dtype, c, n), g, xhat;

        if (dy2 != NULL)
            d += load(dy2, dtype, c, n);
        d = drop(d, c, dropout);
        xhat = (load(s, dtype, c, n) - stats[0]) * stats[1];
        g = d * load(norm->gamma, K_F32, c, n);
        store(dgamma, K_F32, c, load(dgamma, K_F32, c, n) + d * xhat, n);
        store(dbeta, K_F32, c, load(dbeta, K_F32, c, n) + d, n);
        store(ds, K_F32, c, g, n);
        total += g; /* beyond C: gamma is 0 there */
        total_xhat += g * xhat;
    }
    mean = fold(total) / (float)C;
    mean_xhat = fold(total_xhat) / (float)C;
    for (uint32_t c = 0; c < C; c += LANES) {
        lanes xhat = (load(s, dtype, c, C - c) - stats[0]) * stats[1];

        store(ds, K_F32, c, (load(ds, K_F32, c, C - c) - mean - xhat * mean_xhat) * stats[1],
              C - c);
    }
}

static void layernorm_back_row(const struct simd_norm *norm, float *ds, float *dgamma, float *dbeta,
                               const void *dy, const void *dy2, const void *s, const float *stats,
                               const struct simd_dropout *dropout)
{
    if (norm->dtype == K_BF16)
        layernorm_back(norm, K_BF16, ds, dgamma, dbeta, dy, dy2, s, stats, dropout);
    else
        layernorm_back(norm, K_F32, ds, dgamma, dbeta, dy, dy2, s, stats, dropout);
}

static void spread_row(void *y, void *y2, enum kdtype dtype, const float *x,
                       const struct simd_dropout *dropout, uint32_t n)
{
    for (uint32_t c = 0; c < n; c += LANES) {
        lanes value = load(x, K_F32, c, n - c);

        store(y, dtype, c, value, n - c);
        store(y2, dtype, c, drop(value, c, dropout), n - c);
    }
}

/* ---- gelu ------------------------------------------------------------------------------------ */

INLINE void gelu_in(void *y, const void *x, enum kdtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;

        store(y, dtype, i, gelu_of(load(x, dtype, i, len), dtype), len);
    }
}

static void gelu(void *y, const void *x, enum kdtype dtype, size_t n)
{
    if (dtype == K_BF16)
        gelu_in(y, x, K_BF16, n);
    else
        gelu_in(y, x, K_F32, n);
}

/* gelu'(x) - 1/2 = Phi(x) - 1/2 + x phi(x) = x q(x^2), q of degree 9 by least maximum over |x| <=
 * 4.5, beyond which it moves by less than 1e-4. Absolute error 1.3e-4, where bf16's last bit is
 * worth 4e-3. */
INLINE lanes slope_bf16(lanes x)
{
    lanes c = larger(splat(-4.5f), smaller(splat(4.5f), x)), t = c * c;
    lanes q = splat(-2.210776046e-11f);

    q = q * t + 2.521295565e-09f;
    q = q * t - 1.268045029e-07f;
    q = q * t + 3.721917347e-06f;
    q = q * t - 7.122173562e-05f;
    q = q * t + 9.405401028e-04f;
    q = q * t - 8.815849769e-03f;
    q = q * t + 5.860927761e-02f;
    q = q * t - 2.649256468e-01f;
    q = q * t + 7.976261309e-01f;
    return c * q + 0.5f;
}

INLINE lanes slope_exact(lanes x)
{
    return phi_exact(x) + x * 0.39894228f * exp_negative(-0.5f * x * x);
}

INLINE void gelu_back_in(void *dx, const void *dy, const void *x, enum kdtype dtype, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;
        lanes at = load(x, dtype, i, len);

        store(dx, dtype, i,
              load(dy, dtype, i, len) * (dtype == K_BF16 ? slope_bf16(at) : slope_exact(at)), len);
    }
}

static void gelu_back(void *dx, const void *dy, const void *x, enum kdtype dtype, size_t n)
{
    if (dtype == K_BF16)
        gelu_back_in(dx, dy, x, K_BF16, n);
    else
        gelu_back_in(dx, dy, x, K_F32, n);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* y(rows,columns) = a(rows,K) b(K,columns), where a's rows are a_row floats apart and its columns
 * a_k; rows is a multiple of TILE_ROWS, columns of LANES. */
INLINE void product(float *y, const float *a, uint32_t a_row, uint32_t a_k, const float *b,
                    uint32_t rows, uint32_t columns, uint32_t K)
{
    for (uint32_t c = 0; c < columns; c += LANES)
        for (uint32_t r = 0; r < rows; r += TILE_ROWS) {
            const float *from = a + (size_t)r * a_row;
            lanes sums[TILE_ROWS] = {{0}};

            for (uint32_t k = 0; k < K; k++) {
                lanes value = *(const lanes *)(b + (size_t)k * columns + c);

                for (uint32_t i = 0; i < TILE_ROWS; i++)
                    sums[i] += from[(size_t)i * a_row + (size_t)k * a_k] * value;
            }
            for (uint32_t i = 0; i < TILE_ROWS; i++)
                *(lanes *)(y + (size_t)(r + i) * columns + c) = sums[i];
        }
}

/* y(tall,wide) = x(len,dim) scale; zeros around it. */
INLINE void widen_rows(float *y, const void *x, uint32_t stride, enum kdtype dtype, float scale,
                       uint32_t len, uint32_t dim, uint32_t tall, uint32_t wide)
{
    for (uint32_t i = 0; i < tall; i++)
        for (uint32_t d = 0; d < wide; d += LANES) {
            lanes value = i < len ? load(x, dtype, (size_t)i * stride + d, dim - d) : splat(0);

            *(lanes *)(y + (size_t)i * wide + d) = value * scale;
        }
}

INLINE void narrow_rows(void *y, uint32_t stride, enum kdtype dtype, const float *x, float scale,
                        uint32_t len, uint32_t dim, uint32_t wide)
{
    for (uint32_t i = 0; i < len; i++)
        for (uint32_t d = 0; d < dim; d += LANES)
            store(y, dtype, (size_t)i * stride + d,
                  *(const lanes *)(x + (size_t)i * wide + d) * scale, dim - d);
}

/* x where the lane is below n, else y. */
INLINE lanes below(uint32_t n, lanes x, lanes y)
{
    static const lanes_u32 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    lanes_u32 which = (lanes_u32)(lane < n);

    return (lanes)(((lanes_u32)x & which) | ((lanes_u32)y & ~which));
}

/* p(padded): scores -> probabilities; columns from len on become 0 (not e^-87 / total, which is no
 * normal number, and slow). */
INLINE void softmax(float *p, uint32_t len, uint32_t padded)
{
    lanes most = splat(-INFINITY), total = {0};
    float largest, inverse;

    for (uint32_t j = 0; j < padded; j += LANES)
        most = larger(most, below(len - j, *(const lanes *)(p + j), most));
    largest = largest_of(most);
    for (uint32_t j = 0; j < padded; j += LANES) {
        lanes e = exp_negative(*(const lanes *)(p + j) - largest);

        e = below(len - j, e, splat(0));
        *(lanes *)(p + j) = e;
        total += e;
    }
    inverse = 1.0f / fold(total);
    for (uint32_t j = 0; j < padded; j += LANES)
        *(lanes *)(p + j) *= inverse;
}

/* dp(padded) -> ds(padded) of one row of probabilities. */
INLINE void softmax_back(float *dp, const float *p, uint32_t padded)
{
    lanes total = {0};
    float mean;

    for (uint32_t j = 0; j < padded; j += LANES)
        total += *(const lanes *)(dp + j) * *(const lanes *)(p + j);
    mean = fold(total);
    for (uint32_t j = 0; j < padded; j += LANES)
        *(lanes *)(dp + j) = *(const lanes *)(p + j) * (*(const lanes *)(dp + j) - mean);
}

INLINE void attend_back(void *dq, void *dk, void *dv, const void *dy, uint32_t dy_stride,
                        const void *q, const void *k, const void *v, uint32_t stride,
                        enum kdtype dtype, uint32_t len, uint32_t dim, float *scratch)
{
    uint32_t padded = (uint32_t)SIMD_PADDED(len), wide = (uint32_t)SIMD_PADDED(dim);
    uint32_t tall = (len + TILE_ROWS - 1) / TILE_ROWS * TILE_ROWS;
    size_t rows = (size_t)padded * wide;
    float *queries = scratch, *keys = queries + rows, *values = keys + rows, *out = values + rows;
    float *dout = out + rows, *p = dout + rows, *ds = p + (size_t)padded * padded;
    float *columns = ds + (size_t)padded * padded, scale = 1.0f / sqrtf((float)dim);

    widen_rows(queries, q, stride, dtype, scale, len, dim, tall, wide);
    widen_rows(keys, k, stride, dtype, 1, len, dim, tall, wide);
    widen_rows(dout, dy, dy_stride, dtype, 1, len, dim, tall, wide);
    transpose(columns, k, stride, dtype, len, padded, dim);
    product(p, queries, wide, 1, columns, tall, padded, dim);
    for (uint32_t i = 0; i < len; i++)
        softmax(p + (size_t)i * padded, len, padded);
    transpose(columns, v, stride, dtype, len, padded, dim);
    product(ds, dout, wide, 1, columns, tall, padded, dim);
    for (uint32_t i = 0; i < len; i++)
        softmax_back(ds + (size_t)i * padded, p + (size_t)i * padded, padded);
    product(out, p, 1, padded, dout, tall, wide, len);
    narrow_rows(dv, stride, dtype, out, 1, len, dim, wide);
    product(out, ds, 1, padded, queries, tall, wide, len);
    narrow_rows(dk, stride, dtype, out, 1, len, dim, wide);
    product(out, ds, padded, 1, keys, tall, wide, len);
    narrow_rows(dq, stride, dtype, out, scale, len, dim, wide);
}

static void attention_back(void *dq, void *dk, void *dv, const void *dy, uint32_t dy_stride,
                           const void *q, const void *k, const void *v, uint32_t stride,
                           enum kdtype dtype, uint32_t len, uint32_t dim, float *scratch)
{
    if (dtype == K_BF16)
        attend_back(dq, dk, dv, dy, dy_stride, q, k, v, stride, K_BF16, len, dim, scratch);
    else
        attend_back(dq, dk, dv, dy, dy_stride, q, k, v, stride, K_F32, len, dim, scratch);
}

/* ---- sums ------------------------------------------------------------------------------------ */

static void add(void *y, enum kdtype y_dtype, const void *x, enum kdtype x_dtype, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;

        store(y, y_dtype, i, load(y, y_dtype, i, len) + load(x, x_dtype, i, len), len);
    }
}

static void scale_to(void *y, enum kdtype dtype, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;

        store(y, dtype, i, load(x, K_F32, i, len) * scale, len);
    }
}

/* Rows in turn, in a few columns whose sums stay in registers. */
INLINE void column_sums_in(float *y, const void *x, enum kdtype dtype, uint32_t N, uint32_t M,
                           uint32_t from, uint32_t len)
{
    for (uint32_t c = 0; c < len; c += LANES) {
        lanes total = {0};

        for (uint32_t n = 0; n < N; n++)
            total += load(x, dtype, (size_t)n * M + from + c, len - c);
        store(y, K_F32, c, load(y, K_F32, c, len - c) + total, len - c);
    }
}

static void column_sums(float *y, const void *x, enum kdtype dtype, uint32_t N, uint32_t M,
                        uint32_t from, uint32_t len)
{
    if (dtype == K_BF16)
        column_sums_in(y, x, K_BF16, N, M, from, len);
    else
        column_sums_in(y, x, K_F32, N, M, from, len);
}

/* ---- layouts --------------------------------------------------------------------------------- */

/* n <= LANES elements as bf16, each in the lower half of a word. */
INLINE lanes_u32 halves(const void *x, enum kdtype dtype, size_t at, uint32_t n)
{
    lanes value = load(x, dtype, at, n);

    return dtype == K_BF16 ? (lanes_u32)value >> 16
                           : __builtin_convertvector(narrow(value), lanes_u32);
}

INLINE uint16_t *block_at(const struct simd_blocks *y, uint32_t a, uint32_t b)
{
    size_t block = (size_t)(b / y->width) * y->across + a / SIMD_BLOCK_INNER;

    return y->data + block * SIMD_BLOCK_INNER * y->width + 2 * (size_t)(b % y->width);
}

INLINE void put(void *to, lanes_u32 x, int past_caches)
{
#if SIMD_LEVEL >= 4
    if (past_caches) {
        _mm512_stream_si512(to, (__m512i)x);
        return;
    }
#endif
    (void)past_caches;
    *(lanes_u32 *)to = x;
}

/* LANES columns of a block from 32 rows of a tile: two rows become one of words. */
INLINE void pack_rows(uint16_t *to, uint32_t width, const uint16_t *tile, int past_caches)
{
    for (uint32_t i = 0; i < SIMD_BLOCK_INNER;
         i += 2, to += 2 * width, tile += 2 * SIMD_TILE_COLUMNS)
        put(to,
            halves(tile, K_BF16, 0, LANES) |
                (lanes_u32)load(tile + SIMD_TILE_COLUMNS, K_BF16, 0, LANES),
            past_caches);
}

/* The same from LANES rows: the words that they are already change places. */
INLINE void pack_columns(uint16_t *to, uint32_t width, const uint16_t *tile, int past_caches)
{
    lanes words[LANES];

    for (uint32_t i = 0; i < LANES; i++)
        words[i] = *(const lanes *)(tile + (size_t)i * SIMD_TILE_COLUMNS);
    transpose_tile(words);
    for (uint32_t i = 0; i < LANES; i++, to += 2 * width)
        put(to, (lanes_u32)words[i], past_caches);
}

INLINE uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

INLINE void fill_tile(uint16_t *tile, const void *x, enum kdtype dtype, uint32_t R, uint32_t C,
                      uint32_t row, uint32_t column)
{
    for (uint32_t i = 0; i < SIMD_TILE_ROWS; i++)
        for (uint32_t j = 0; j < SIMD_TILE_COLUMNS; j += LANES) {
            lanes_u16 values = {0};

            __builtin_prefetch((const char *)x + ((size_t)(row + i + AHEAD) * C + column + j) *
                                                     (dtype == K_BF16 ? 2 : 4));
            if (row + i < R && column + j < C)
                values = narrow(load(x, dtype, (size_t)(row + i) * C + column + j, C - column - j));
            *(lanes_u16 *)(tile + (size_t)i * SIMD_TILE_COLUMNS + j) = values;
        }
}

/* Weights, which come in both directions, are not used before the other matrices were: they are
 * written past the caches, which saves reading what is overwritten (20 % of it). */
static void pack(const struct simd_blocks *y, const struct simd_blocks *turned, const void *x,
                 enum kdtype dtype, uint32_t R, uint32_t C, uint32_t row, uint32_t column)
{
    uint16_t tile[SIMD_TILE_ROWS * SIMD_TILE_COLUMNS] __attribute__((aligned(64)));
    const struct simd_blocks *both[2] = {y, turned};

    if (dtype == K_BF16)
        fill_tile(tile, x, K_BF16, R, C, row, column);
    else
        fill_tile(tile, x, K_F32, R, C, row, column);
    for (int t = 0; t < 2; t++) {
        const struct simd_blocks *to = both[t];
        uint32_t a0 = t == 0 ? row : column, b0 = t == 0 ? column : row, a1, b1;

        if (to == NULL)
            continue;
        a1 = to->across * SIMD_BLOCK_INNER - a0;
        b1 = ((t == 0 ? C : R) + to->width - 1) / to->width * to->width - b0;
        a1 = least(a1, t == 0 ? SIMD_TILE_ROWS : SIMD_TILE_COLUMNS);
        b1 = least(b1, t == 0 ? SIMD_TILE_COLUMNS : SIMD_TILE_ROWS);
        for (uint32_t b = 0; b < b1; b += LANES)
            for (uint32_t a = 0; a < a1; a += SIMD_BLOCK_INNER) {
                uint16_t *block = block_at(to, a0 + a, b0 + b);

                if (t == 0)
                    pack_rows(block, to->width, tile + (size_t)a * SIMD_TILE_COLUMNS + b,
                              turned != NULL);
                else
                    pack_columns(block, to->width, tile + (size_t)b * SIMD_TILE_COLUMNS + a, 1);
            }
    }
#if SIMD_LEVEL >= 4
    _mm_sfence();
#endif
}

static void transpose_halves(uint16_t *y, float *sums, const uint16_t *x, uint32_t N, uint32_t M,
                             uint32_t wide, uint32_t from, uint32_t to)
{
    for (uint32_t m = from; m < to; m += LANES) {
        lanes even = {0}, odd = {0};

        for (uint32_t n = 0; n < wide; n += 2 * LANES) {
            lanes tile[LANES];

            for (uint32_t i = 0; i < LANES; i++) {
                size_t row = n + 2 * i;
                lanes first = {0}, second = {0};

                if (row < N)
                    first = load(x, K_BF16, row * M + m, M - m);
                if (row + 1 < N)
                    second = load(x, K_BF16, (row + 1) * M + m, M - m);
                even += first;
                odd += second;
                tile[i] = (lanes)((lanes_u32)first >> 16 | (lanes_u32)second);
            }
            transpose_tile(tile);
            for (uint32_t i = 0; i < LANES && m + i < to; i++)
                *(lanes *)(y + (size_t)(m + i) * wide + n) = tile[i];
        }
        if (sums != NULL)
            store(sums, K_F32, m, load(sums, K_F32, m, M - m) + (even + odd), M - m);
    }
}

/* ---- steps ----------------------------------------------------------------------------------- */

typedef double doubles __attribute__((vector_size(64)));
typedef float half_lanes __attribute__((vector_size(32), aligned(4), may_alias));

static double sum_of_squares(const float *x, size_t n)
{
    doubles parts[4] = {{0}};
    double total = 0;
    size_t i = 0;

    for (; i + 32 <= n; i += 32)
        for (size_t p = 0; p < 4; p++) {
            doubles value = __builtin_convertvector(*(const half_lanes *)(x + i + 8 * p), doubles);

            parts[p] += value * value;
        }
    for (; i < n; i++)
        total += (double)x[i] * x[i];
    parts[0] = (parts[0] + parts[1]) + (parts[2] + parts[3]);
    for (int e = 0; e < 8; e++)
        total += parts[0][e];
    return total;
}

INLINE lanes root(lanes x)
{
#if SIMD_LEVEL >= 4
    return (lanes)_mm512_sqrt_ps((__m512)x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = sqrtf(x[i]);
    return x;
#endif
}

static void adamw(float *w, float *m, float *v, float *grad, size_t n, const struct simd_adamw *a)
{
    for (size_t i = 0; i < n; i += LANES) {
        uint32_t len = n - i < LANES ? (uint32_t)(n - i) : LANES;
        lanes g = load(grad, K_F32, i, len) * a->scale, first, second;

        first = load(m, K_F32, i, len) * a->beta1 + g * (1 - a->beta1);
        second = load(v, K_F32, i, len) * a->beta2 + g * g * (1 - a->beta2);
        store(m, K_F32, i, first, len);
        store(v, K_F32, i, second, len);
        store(grad, K_F32, i, splat(0), len);
        store(w, K_F32, i,
              load(w, K_F32, i, len) * a->decay -
                  a->rate * first / (root(second) * a->root + a->eps),
              len);
    }
}

#define TRAINING JOIN(simd_training_v, SIMD_LEVEL)

const struct simd_training TRAINING = {
    .embed_row = embed_row,
    .add_layernorm_row = add_layernorm_row,
    .layernorm_back_row = layernorm_back_row,
    .spread_row = spread_row,
    .gelu = gelu,
    .gelu_back = gelu_back,
    .attention_back = attention_back,
    .add = add,
    .scale = scale_to,
    .column_sums = column_sums,
    .pack = pack,
    .transpose = transpose_halves,
    .sum_squares = sum_of_squares,
    .adamw = adamw,
};
