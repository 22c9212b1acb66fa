/* cuda_ops.h -- what the kernel files of kernels/cuda offer the two tables: backend.h's words, and
 * one operation for serving and training where they differ in what is kept.
 */
#ifndef LEARND_CUDA_OPS_H
#define LEARND_CUDA_OPS_H

#include "kernels/cuda/cuda_ctx.h"

extern const struct backend_training cuda_training; /* cuda_training.cu */

/* ---- cuda_graphs.cu ---------------------------------------------------------------------------
 */

/* widen and repeat of backend.h. */
bool cuda_widen(struct kbatch *batch, uint32_t seqs_max, uint32_t rows_max);
void cuda_repeat(struct kctx *k, const struct kkey *key, void (*enqueue)(void *ud), void *ud);
/* Of a context. 0, -ENOMEM. */
int cuda_graphs_open(struct kctx *k);
void cuda_graphs_close(struct kctx *k);

/* ---- cuda_rows.cu -----------------------------------------------------------------------------
 */

/* y = gelu(x + bias); x(N,M) may be y, bias may be NULL. */
void cuda_bias_gelu(struct kctx *k, struct kview y, struct kview x, const float *bias, uint32_t N,
                    uint32_t M);
void cuda_gelu_back(struct kctx *k, struct kview dx, struct kview dy, struct kview x, uint32_t N,
                    uint32_t M);
/* y(n) = x(n), rounded to y's dtype. */
void cuda_convert(struct kctx *k, struct kview y, struct kview x, size_t n);
void cuda_add(struct kctx *k, struct kview y, struct kview x, size_t n);
/* parts: CUDA_SUM_PARTS of scratch; total on the device. */
static constexpr uint32_t CUDA_SUM_PARTS = 256;
void cuda_sum_squares(struct kctx *k, double *total, double *parts, const float *x, size_t n);

struct adamw_rates {
    float scale, decay, beta1, beta2, eps, rate, root; /* root: 1/sqrt(1 - beta2^step) */
};

void cuda_adamw(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n,
                const struct adamw_rates *a);

/* ---- cuda_norm.cu -----------------------------------------------------------------------------
 */

/* s.data, stats and dropout may be NULL; the three tables are of one dtype, fp32 or y's. */
void cuda_embed(struct kctx *k, struct kview y, struct kview s, float *stats, const int32_t *ids,
                const uint8_t *types, const struct kbatch *batch, struct kview word,
                struct kview position, struct kview segment, const float *gamma, const float *beta,
                float eps, uint32_t C, const struct kdropout *dropout);
void cuda_add_layernorm(struct kctx *k, struct kview y, struct kview s, float *stats,
                        struct kview x, struct kview residual, const float *gamma,
                        const float *beta, float eps, uint32_t N, uint32_t C,
                        const struct kdropout *dropout);

/* What goes into the backward of a norm of s(N,C). dy2.data may be NULL. before: dropout of x in
 * s = dropout(x) + residual; behind: of the norm's result. Either may be NULL. */
struct norm_inputs {
    struct kview dy, dy2, s;
    const float *stats, *gamma;
    uint32_t N, C;
    const struct kdropout *before, *behind;
};

/* ds of fp32 or dy's dtype; dx.data may be NULL. parts: column_bytes(N,C) of scratch. */
void cuda_norm_back(struct kctx *k, struct kview ds, struct kview dx, float *dgamma, float *dbeta,
                    void *parts, const struct norm_inputs *b);

/* ---- cuda_tables.cu ---------------------------------------------------------------------------
 */

/* The gradients of the three tables from those of the sum: ds(T,C) fp32. ids, types (or NULL) and
 * offsets on the device, types_max the largest of them. parts: column_bytes(T,C). */
void cuda_tables_back(struct kctx *k, float *dword, float *dposition, float *dsegment,
                      const float *ds, const int32_t *ids, const uint8_t *types, uint32_t types_max,
                      const uint32_t *offsets, uint32_t longest, uint32_t B, uint32_t T, uint32_t C,
                      void *parts);
/* db(M) += column sums of dy(N,M). */
void cuda_bias_back(struct kctx *k, float *db, struct kview dy, uint32_t N, uint32_t M,
                    void *parts);

/* ---- cuda_attention.cu, cuda_attention_back.cu, and each by tensor cores (.._mma.cu) -----------
 */

void cuda_attention(struct kctx *k, struct kview y, struct kview qkv, const struct kbatch *batch,
                    uint32_t C, uint32_t H);
/* By tensor cores: bf16, heads of 32 or 64, addresses multiples of 16. offsets on the device. */
void cuda_attention_mma(struct kctx *k, struct kview y, struct kview qkv, const uint32_t *offsets,
                        uint32_t longest, uint32_t B, uint32_t C, uint32_t H);
/* What of scratch it takes for T tokens, by the plain path; tensor cores make do with less. */
size_t cuda_attention_back_bytes(uint32_t T, uint32_t H);
void cuda_attention_back(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                         const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H);
void cuda_attention_back_mma(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                             const uint32_t *offsets, uint32_t longest, uint32_t B, uint32_t T,
                             uint32_t C, uint32_t H);

/* ---- cuda_pool.cu, cuda_head.cu ---------------------------------------------------------------
 */

/* length may be NULL. */
void cuda_pool(struct kctx *k, float *y, float *length, struct kview x, const struct kbatch *batch,
               uint32_t C, enum kpool how);
void cuda_pool_back(struct kctx *k, struct kview dx, const float *dy, const float *y,
                    const float *length, const uint32_t *offsets, uint32_t B, uint32_t C,
                    enum kpool how);
void cuda_head_features(struct kctx *k, float *y, const float *x, const float *w, float scale,
                        uint32_t N, uint32_t K, uint32_t M);
void cuda_head_dense(struct kctx *k, float *y, const float *x, const float *w, uint32_t N,
                     uint32_t K, uint32_t L);
void cuda_head_similarity(struct kctx *k, float *y, const float *x, const uint16_t *rows,
                          uint32_t N, uint32_t R, uint32_t C);

/* ---- cuda_loss.cu, cuda_lora.cu ---------------------------------------------------------------
 */

size_t cuda_loss_bytes(const struct kloss *most);
void cuda_loss(struct kctx *k, double *losses, float *dx, float *dw, float *dbias, const float *x,
               const float *w, const float *bias, const struct kloss *l);
void cuda_lora(struct kctx *k, float *y, const float *w, const float *a, const float *b,
               float scale, uint32_t M, uint32_t K, uint32_t r);
/* Of scratch. */
size_t cuda_lora_back_bytes(uint32_t M, uint32_t K, uint32_t r);
void cuda_lora_back(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                    const float *b, float scale, uint32_t M, uint32_t K, uint32_t r);

#endif
