/* backend_training.h -- the operations of fine-tuning, each forward beside its backward.
 *
 * The second table of a device, apart from backend.h because serving does not need it. Letters,
 * row-major order and the sticky first failure are those of backend.h. Forward operations write
 * (=). Backward operations write gradients of activations (=) and add to gradients of parameters
 * (+=). Activations are in the dtype of their views (bf16, or fp32 for exactness); parameters that
 * are not matrices, every gradient of a parameter, and statistics are fp32.
 *
 * What the forward keeps for the backward is named here by the caller's buffers: s is the sum that
 * went into a layer norm, stats (N,2) its mean and 1/deviation.
 *
 * Deterministic: the same call on the same device gives the same bits, whatever the number of
 * threads.
 */
#ifndef LEARND_BACKEND_TRAINING_H
#define LEARND_BACKEND_TRAINING_H

#include "kernels/backend.h"
#include "kernels/backend_loss.h"

struct kmat_train; /* a weight matrix that changes between steps, in the forms both directions want
                    */

/* Inverted dropout by a counter-based generator: element c of row n at a place in the network is
 * kept, or not, by hash(rows[n], site, c) alone, so that neither batching nor resuming changes it.
 */
struct kdropout {
    const uint64_t *rows; /* (N) a key for each row: of (seed, step, example, position) */
    uint32_t site;        /* which of the network's dropouts */
    float p;              /* share dropped; 0: none, rows may be NULL */
};

/* The largest batch that operations will be given: T tokens, of an encoder of C, F and H, with
 * adapters of rank r, or 0. What loss wants of memory stands apart: loss_bytes. */
struct kshape {
    uint32_t T, C, F, H, r;
};

/* Every operation, once: what fills a table is a list of these. */
#define BACKEND_TRAINING_OPERATIONS(ROW)                                                           \
    ROW(scratch_bytes)                                                                             \
    ROW(scratch_open)                                                                              \
    ROW(mat_bytes)                                                                                 \
    ROW(mat_open)                                                                                  \
    ROW(mat_close)                                                                                 \
    ROW(mat_set)                                                                                   \
    ROW(linear)                                                                                    \
    ROW(linear_dx)                                                                                 \
    ROW(linear_dw)                                                                                 \
    ROW(embed)                                                                                     \
    ROW(embed_back)                                                                                \
    ROW(add_layernorm)                                                                             \
    ROW(add_layernorm_back)                                                                        \
    ROW(gelu)                                                                                      \
    ROW(gelu_back)                                                                                 \
    ROW(attention_back)                                                                            \
    ROW(pool)                                                                                      \
    ROW(pool_back)                                                                                 \
    ROW(loss_bytes)                                                                                \
    ROW(loss)                                                                                      \
    ROW(lora)                                                                                      \
    ROW(lora_back)                                                                                 \
    ROW(zero)                                                                                      \
    ROW(add)                                                                                       \
    ROW(sum_squares)                                                                               \
    ROW(adamw)

struct backend_training {
    /* Scratch of a context for all operations of this table: what of K_RUNS it takes, to the byte;
     * and takes it, so that none of them has to. 0, -ENOMEM. */
    size_t (*scratch_bytes)(const struct kshape *most);
    int (*scratch_open)(struct kctx *k, const struct kshape *most);

    /* What of K_RUNS mat_open takes. */
    size_t (*mat_bytes)(uint32_t M, uint32_t K, enum kdtype dtype);
    /* w of (M,K). 0, -ENOMEM. Not usable before mat_set. */
    int (*mat_open)(uint32_t M, uint32_t K, enum kdtype dtype, struct kmat_train **ret_mat);
    void (*mat_close)(struct kmat_train *mat);
    /* Takes over the values w(M,K) fp32, rounded to the matrix's dtype. After each step. */
    void (*mat_set)(struct kctx *k, struct kmat_train *mat, const float *w);

    /* y(N,M) = x(N,K) w^T + bias(M). Buffers have room for rows(N) rows. */
    void (*linear)(struct kctx *k, struct kview y, struct kview x, const struct kmat_train *w,
                   const float *bias, uint32_t N);
    /* dx(N,K) = dy(N,M) w. */
    void (*linear_dx)(struct kctx *k, struct kview dx, struct kview dy, const struct kmat_train *w,
                      uint32_t N);
    /* dw(M,K) += dy^T x; db(M) += column sums of dy, unless NULL. May write zeros into the rows of
     * x and dy from N on. */
    void (*linear_dw)(struct kctx *k, float *dw, float *db, struct kview dy, struct kview x,
                      uint32_t M, uint32_t K, uint32_t N);

    /* s(T,C) = word[id] + position[t - start] + segment[type]; y = dropout(layernorm(s)). */
    void (*embed)(struct kctx *k, struct kview y, struct kview s, float *stats, const int32_t *ids,
                  const uint8_t *types, const uint32_t *offsets, uint32_t B, const float *word,
                  const float *position, const float *segment, const float *gamma,
                  const float *beta, float eps, uint32_t C, const struct kdropout *dropout);
    void (*embed_back)(struct kctx *k, float *dword, float *dposition, float *dsegment,
                       float *dgamma, float *dbeta, struct kview dy, struct kview s,
                       const float *stats, const int32_t *ids, const uint8_t *types,
                       const uint32_t *offsets, uint32_t B, const float *gamma, uint32_t C,
                       const struct kdropout *dropout);

    /* s(N,C) = dropout(x) + residual; y = layernorm(s) gamma + beta. */
    void (*add_layernorm)(struct kctx *k, struct kview y, struct kview s, float *stats,
                          struct kview x, struct kview residual, const float *gamma,
                          const float *beta, float eps, uint32_t N, uint32_t C,
                          const struct kdropout *dropout);
    /* ds: of s, and so of the residual; dx: of x. dy2: a second gradient of y, added to dy, or data
     * NULL. ds may be dy or dy2. */
    void (*add_layernorm_back)(struct kctx *k, struct kview ds, struct kview dx, float *dgamma,
                               float *dbeta, struct kview dy, struct kview dy2, struct kview s,
                               const float *stats, const float *gamma, uint32_t N, uint32_t C,
                               const struct kdropout *dropout);

    /* y(N,M) = x Phi(x); dx may be dy. */
    void (*gelu)(struct kctx *k, struct kview y, struct kview x, uint32_t N, uint32_t M);
    void (*gelu_back)(struct kctx *k, struct kview dx, struct kview dy, struct kview x, uint32_t N,
                      uint32_t M);

    /* The forward is backend.h's; the probabilities are computed again from qkv(T,3C). */
    void (*attention_back)(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                           const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H);

    /* y(B,C) fp32, unit length; length(B): of the pooled vector before it was scaled. Device
     * memory, as dy is. */
    void (*pool)(struct kctx *k, float *y, float *length, struct kview x, const uint32_t *offsets,
                 uint32_t B, uint32_t C, enum kpool how);
    void (*pool_back)(struct kctx *k, struct kview dx, const float *dy, const float *y,
                      const float *length, const uint32_t *offsets, uint32_t B, uint32_t C,
                      enum kpool how);

    /* Device memory that loss needs beside its arguments, for so much of everything or less. */
    size_t (*loss_bytes)(const struct kloss *most);
    /* Forward and backward of the losses at once: losses(B,3), shared; dx(B,C); dw(L,C); of sets
     * also dbias(L) from bias(L), else both NULL. A text's losses and its dx do not depend on the
     * other texts, bit for bit. Numbers that are none come out as such: a label vector of zeros has
     * no direction, and the losses of all texts are NaN. */
    void (*loss)(struct kctx *k, double *losses, float *dx, float *dw, float *dbias, const float *x,
                 const float *w, const float *bias, const struct kloss *loss);

    /* Low-rank adaptation: y(M,K) = w(M,K) + scale b(M,r) a(r,K). r 0: y = w, a and b NULL. */
    void (*lora)(struct kctx *k, float *y, const float *w, const float *a, const float *b,
                 float scale, uint32_t M, uint32_t K, uint32_t r);
    /* da(r,K) += scale b^T dw(M,K); db(M,r) += scale dw a^T. */
    void (*lora_back)(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                      const float *b, float scale, uint32_t M, uint32_t K, uint32_t r);

    /* x(n) = 0. */
    void (*zero)(struct kctx *k, float *x, size_t n);
    /* y(n) += x(n). */
    void (*add)(struct kctx *k, struct kview y, struct kview x, size_t n);
    /* Sum of squares of x(n), summed in fp64 in a fixed order. Waits. */
    double (*sum_squares)(struct kctx *k, const float *x, size_t n);
    /* One AdamW step (Loshchilov and Hutter, 2019; bias-corrected as PyTorch's) on n parameters:
     * g = scale * grad; grad is set to 0 afterwards. step counts from 1. */
    void (*adamw)(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n, float scale,
                  float lr, float beta1, float beta2, float eps, float weight_decay, uint64_t step);
};

/* NULL: the device cannot train. */
const struct backend_training *backend_cpu_training(void);

#endif
