/* backend.h -- the table of operations a device offers, and the views they work on.
 *
 * The table is small because the models are fixed: a BERT encoder and the head. Operations only
 * enqueue; the first failure of a device sticks to the context and comes out of sync(). On the CPU
 * they run at once. Forward operations write (=). Backward operations (with training) will write
 * activation gradients (=) and add to parameter gradients (+=); they join this table, each beside
 * its forward.
 *
 * Letters: B sequences, T tokens of the packed batch, C channels, H heads, F feed-forward, V
 * vocabulary, L labels, M features, N rows, K inner dimension. All matrices are row-major; stride =
 * columns.
 *
 * Threads: a kdevice may be shared; a kctx belongs to one thread at a time.
 */
#ifndef LEARND_BACKEND_H
#define LEARND_BACKEND_H

#include <stddef.h>
#include <stdint.h>

struct kctx; /* one thread's stream and scratch */
struct kmat; /* a weight matrix in the layout its device wants */

enum kdtype { K_F32, K_BF16 };
enum kact { K_NONE, K_GELU }; /* exact GELU: x Phi(x) */
enum kpool { K_POOL_MEAN, K_POOL_CLS };

/* Device memory, borrowed. */
struct kview {
    void *data;
    enum kdtype dtype;
};

struct backend {
    const char *name;

    /* ctx_open: scratch for batches of rows_max rows; threads_max cores one operation may use. 0,
     * -ENOMEM, -EIO. */
    int (*ctx_open)(uint32_t rows_max, uint32_t threads_max, struct kctx **ret_ctx);
    void (*ctx_close)(struct kctx *k);
    /* Cores that the following operations use, 1 .. threads_max. Results do not depend on it. */
    void (*ctx_threads)(struct kctx *k, uint32_t threads);
    /* Waits for everything enqueued. 0, or the first failure: -ENOMEM, -EIO. */
    int (*sync)(struct kctx *k);

    /* Rows that an activation buffer needs for a batch of N: kernels work on a ladder of row
     * counts. */
    uint32_t (*rows)(uint32_t N);
    /* Device memory, 64-byte aligned, zeroed. */
    int (*alloc)(size_t bytes, void **ret_data);
    void (*dealloc)(void *data);
    /* Copies n fp32 values in, rounding to nearest even where dtype is K_BF16. */
    int (*upload)(void *device, enum kdtype dtype, const float *host, size_t n);

    /* w(M,K) fp32 on the host -> the layout of linear(). dtype: what linear computes in. */
    int (*mat_load)(const float *w, uint32_t M, uint32_t K, enum kdtype dtype,
                    struct kmat **ret_mat);
    void (*mat_free)(struct kmat *mat);

    /* y(T,C) = layernorm(word[id] + position[t - start] + segment[type]) gamma + beta. Tables in
     * their own dtype. */
    void (*embed)(struct kctx *k, struct kview y, const int32_t *ids, const uint8_t *types,
                  const uint32_t *offsets, uint32_t B, struct kview word, struct kview position,
                  struct kview segment, const float *gamma, const float *beta, float eps,
                  uint32_t C);
    /* y(N,M) = act(x(N,K) w(M,K)^T + bias(M)); fp32 accumulation. bias may be NULL. x and y have
     * the dtype of w and room for rows(N) rows; what stands in the rows from N on is neither read
     * nor kept. */
    void (*linear)(struct kctx *k, struct kview y, struct kview x, const struct kmat *w,
                   const float *bias, uint32_t M, enum kact act, uint32_t N);
    /* y(T,C) = softmax(q k^T / sqrt(C/H)) v for each text and head; qkv(T,3C): q, k, v side by
     * side. */
    void (*attention)(struct kctx *k, struct kview y, struct kview qkv, const uint32_t *offsets,
                      uint32_t B, uint32_t C, uint32_t H);
    /* y(N,C) = layernorm(x + residual) gamma + beta. y may be x or residual. */
    void (*add_layernorm)(struct kctx *k, struct kview y, struct kview x, struct kview residual,
                          const float *gamma, const float *beta, float eps, uint32_t N, uint32_t C);
    /* y(B,C) fp32 = unit length of the mean (or the first) of each text's rows of x(T,C). */
    void (*pool)(struct kctx *k, float *y, struct kview x, const uint32_t *offsets, uint32_t B,
                 uint32_t C, enum kpool how);

    /* The head's forward. Each row's result is independent of N and, bit for bit, of the other
     * rows. y(N,M) = scale relu(x(N,K) w(K,M)) fp32. */
    void (*head_features)(struct kctx *k, float *y, const float *x, const float *w, float scale,
                          uint32_t N, uint32_t K, uint32_t M);
    /* y(N,L) = x(N,K) w(L,K)^T fp32. */
    void (*head_dense)(struct kctx *k, float *y, const float *x, const float *w, uint32_t N,
                       uint32_t K, uint32_t L);
    /* y(N,R) = x(N,C) . rows(R,C) with rows in IEEE fp16: similarities to one block of examples. */
    void (*head_similarity)(struct kctx *k, float *y, const float *x, const uint16_t *rows,
                            uint32_t N, uint32_t R, uint32_t C);
};

/* The cpu backend: oneDNN for linear, own loops (AVX-512, AVX2 or plain, chosen when first used)
 * for the rest. */
const struct backend *backend_cpu(void);

#endif
