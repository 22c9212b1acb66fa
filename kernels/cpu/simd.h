/* simd.h -- the cpu backend's own loops, compiled three times (x86-64-v2, v3, v4) and picked when
 * first used.
 *
 * Private to kernels/cpu. Every function works on whole rows with a fixed order of additions: a
 * row's result depends on nothing but the row (and, in attention, its own text), so a text's
 * embedding has the same bits in any batch. The three levels need not agree with one another to the
 * bit.
 */
#ifndef LEARND_SIMD_H
#define LEARND_SIMD_H

#include <stdint.h>

#include "kernels/backend.h"

enum { SIMD_LANES = 16, SIMD_QUERIES = 8 };
#define SIMD_PADDED(n) (((size_t)(n) + SIMD_LANES - 1) / SIMD_LANES * SIMD_LANES)
/* Floats of scratch that attention needs for a text of `len` tokens with heads of `dim` channels.
 */
#define SIMD_ATTENTION_FLOATS(len, dim)                                                            \
    (SIMD_PADDED(len) * ((dim) + SIMD_PADDED(dim) + SIMD_QUERIES) + SIMD_QUERIES * SIMD_PADDED(dim))

enum { SIMD_PANEL = 16 }; /* columns of a panel of own_linear.h */

struct simd_training;

struct simd_table {
    const char *name;
    /* y(C) = layernorm(word + position + segment), dtypes: dt of the tables, dy of y. row: C
     * floats. */
    void (*embed_row)(void *y, enum kdtype dy, const void *word, const void *position,
                      const void *segment, enum kdtype dt, const float *gamma, const float *beta,
                      float eps, uint32_t C, float *row);
    /* y(C) = layernorm(x + r). */
    void (*add_layernorm_row)(void *y, const void *x, const void *r, enum kdtype dtype,
                              const float *gamma, const float *beta, float eps, uint32_t C,
                              float *row);
    /* x(n) = gelu(x), in place. */
    void (*gelu)(void *x, enum kdtype dtype, size_t n);
    /* One head of one text: y(len,dim) from q, k, v (len,dim), rows `stride` (y: `y_stride`)
     * elements apart. */
    void (*attention)(void *y, uint32_t y_stride, const void *q, const void *k, const void *v,
                      uint32_t stride, enum kdtype dtype, uint32_t len, uint32_t dim,
                      float *scratch);
    /* y(C) = unit length of the mean of x(len,C). */
    void (*pool_row)(float *y, const void *x, enum kdtype dtype, uint32_t len, uint32_t C);
    /* y(N,SIMD_PANEL) = x(N,K) panel(K,SIMD_PANEL), each element one sum over K from first to last.
     */
    void (*linear_panel)(float *y, const float *x, const float *panel, uint32_t N, uint32_t K);
    /* y(M) = scale relu(x(K) w(K,M)). */
    void (*features_row)(float *y, const float *x, const float *w, float scale, uint32_t K,
                         uint32_t M);
    /* f(N,M) = scale relu(x(N,K) w(K,M)) in fp64, one product after the other over K: learning's
     * features. */
    void (*features_exact)(double *f, const float *x, const float *w, double scale, uint32_t N,
                           uint32_t K, uint32_t M);
    float (*dot)(const float *a, const float *b, uint32_t n);
    /* y(N,R) = x(N,C) . rows(R,C), rows in IEEE fp16. */
    void (*similar)(float *y, const float *x, const uint16_t *rows, uint32_t N, uint32_t R,
                    uint32_t C);
    void (*to_bf16)(uint16_t *y, const float *x, size_t n);
    void (*from_bf16)(float *y, const uint16_t *x, size_t n);
    const struct simd_training *training; /* the same level's: simd_training.h */
};

extern const struct simd_table simd_table_v2, simd_table_v3, simd_table_v4;

/* The best one this machine can run. Any thread. */
const struct simd_table *simd_pick(void);

#endif
