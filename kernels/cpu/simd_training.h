/* simd_training.h -- the row loops of training, compiled three times beside simd.c. Private to
 * kernels/cpu.
 *
 * Sums over the columns of a row run in a fixed order; sums over rows are the caller's, who cuts
 * the rows into chunks that do not depend on the number of threads.
 */
#ifndef LEARND_SIMD_TRAINING_H
#define LEARND_SIMD_TRAINING_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/backend.h"
#include "kernels/cpu/simd.h"

/* One row's dropout: element c is kept where hash(a, b, c) >= threshold, times scale. */
struct simd_dropout {
    uint32_t a, b;
    uint32_t threshold; /* 0: all kept */
    float scale;
};

/* Where a row of layer norm goes and what it keeps: y and s in dtype, stats {mean, 1/deviation}. */
struct simd_norm {
    enum kdtype dtype;
    uint32_t C;
    float eps;
    const float *gamma, *beta;
};

struct simd_adamw {
    float scale, decay, beta1, beta2, eps, rate, root; /* root: 1/sqrt(1 - beta2^step) */
};

/* A bf16 matrix (inner,columns) as oneDNN's BA16a<width>b2a: blocks (columns/width, across), each
 * (16,width,2), so that two neighbours along inner are one word. Zero beyond the matrix. */
struct simd_blocks {
    uint16_t *data;
    uint32_t width, across; /* 16, 32 or 64; inner/32 */
};

/* A tile is whole blocks in both directions, and half of the nearest cache as bf16. */
enum { SIMD_BLOCK_INNER = 32, SIMD_TILE_ROWS = 64, SIMD_TILE_COLUMNS = 192 };

/* Floats of scratch that attention_back needs. */
#define SIMD_ATTENTION_BACK_FLOATS(len, dim)                                                       \
    (SIMD_PADDED(len) * (5 * SIMD_PADDED(dim) + 2 * (dim) + 2 * SIMD_PADDED(len)))

struct simd_training {
    /* s = word + position + segment, y = dropout(layernorm(s)). */
    void (*embed_row)(const struct simd_norm *norm, void *y, void *s, float *stats,
                      const float *word, const float *position, const float *segment,
                      const struct simd_dropout *dropout, float *row);
    /* s = dropout(x) + residual, y = layernorm(s). */
    void (*add_layernorm_row)(const struct simd_norm *norm, void *y, void *s, float *stats,
                              const void *x, const void *residual,
                              const struct simd_dropout *dropout, float *row);
    /* ds(C) fp32 of y = layernorm(s), where dy is what `dropout` leaves of dy + dy2 (may be NULL);
     * dgamma, dbeta +=. */
    void (*layernorm_back_row)(const struct simd_norm *norm, float *ds, float *dgamma, float *dbeta,
                               const void *dy, const void *dy2, const void *s, const float *stats,
                               const struct simd_dropout *dropout);
    /* y(n) = x(n), and y2(n) = dropout(x(n)). */
    void (*spread_row)(void *y, void *y2, enum kdtype dtype, const float *x,
                       const struct simd_dropout *dropout, uint32_t n);
    /* y = gelu(x); dx = dy gelu'(x), where dx may be dy. */
    void (*gelu)(void *y, const void *x, enum kdtype dtype, size_t n);
    void (*gelu_back)(void *dx, const void *dy, const void *x, enum kdtype dtype, size_t n);
    /* One head of one text: gradients of q, k, v, rows `stride` elements apart, from dy, rows
     * `dy_stride` apart. */
    void (*attention_back)(void *dq, void *dk, void *dv, const void *dy, uint32_t dy_stride,
                           const void *q, const void *k, const void *v, uint32_t stride,
                           enum kdtype dtype, uint32_t len, uint32_t dim, float *scratch);
    /* y(n) += x(n). */
    void (*add)(void *y, enum kdtype y_dtype, const void *x, enum kdtype x_dtype, size_t n);
    /* y(n) = x(n) scale. */
    void (*scale)(void *y, enum kdtype dtype, const float *x, float scale, size_t n);
    /* y(len) += sums of the columns from .. from+len of x(N,M). */
    void (*column_sums)(float *y, const void *x, enum kdtype dtype, uint32_t N, uint32_t M,
                        uint32_t from, uint32_t len);
    /* A tile of x(R,C), from (row,column) on, into blocks whose inner runs along x's columns'
     * direction (y) or along its rows' (turned): either may be NULL. */
    void (*pack)(const struct simd_blocks *y, const struct simd_blocks *turned, const void *x,
                 enum kdtype dtype, uint32_t R, uint32_t C, uint32_t row, uint32_t column);
    /* y(M,wide) bf16, its rows from .. to: the transpose of x(N,M) bf16, zeros from column N on;
     * sums(M) += those columns of x, unless NULL. wide and from: multiples of 32 and 16. */
    void (*transpose)(uint16_t *y, float *sums, const uint16_t *x, uint32_t N, uint32_t M,
                      uint32_t wide, uint32_t from, uint32_t to);
    double (*sum_squares)(const float *x, size_t n);
    void (*adamw)(float *w, float *m, float *v, float *grad, size_t n, const struct simd_adamw *a);
};

extern const struct simd_training simd_training_v2, simd_training_v3, simd_training_v4;

#endif
