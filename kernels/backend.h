/* backend.h -- the table of operations a device offers, and the views they work on.
 *
 * The table is small because the models are fixed: a BERT encoder and the head. Operations only
 * enqueue; the first failure of a device sticks to the context and comes out of sync(). On the CPU
 * they run at once. Forward operations write (=); fine-tuning has a table of its own beside this
 * one, backend_training.h.
 *
 * Memory is of two kinds. Device memory (alloc): tables, gamma, beta, bias, activations; the host
 * reaches it by upload and download only. Shared memory (alloc_shared): small things that the host
 * makes or reads: ids, types, offsets, the rows of dropout, the y of pool, what a loss is given and
 * its losses. An operation reads what it needs of offsets at once and the device reads the rest
 * later: what is shared may be changed, and read, only after sync(). On the CPU both are plain
 * memory.
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
/* Whose work a device takes first where it has both. */
enum kpriority { K_SERVING, K_TRAINING };

/* Of a loadable backend: it opens only for a daemon built with the same one. Raised with any change
 * of this header or of backend_training.h. */
enum { BACKEND_ABI = 2 };

/* Device memory, borrowed. */
struct kview {
    void *data;
    enum kdtype dtype;
};

struct backend_training;

struct backend {
    const char *name;                        /* "cpu", "cuda:0" */
    const struct backend_training *training; /* NULL: the device cannot train */

    /* ctx_open: scratch for batches of rows_max rows; threads_max cores one operation may use (of
     * the CPU; a device has its own). 0, -ENOMEM, -EIO, -ENODEV. */
    int (*ctx_open)(uint32_t rows_max, uint32_t threads_max, enum kpriority priority,
                    struct kctx **ret_ctx);
    void (*ctx_close)(struct kctx *k);
    /* Cores that the following operations use, 1 .. threads_max. Results do not depend on it. */
    void (*ctx_threads)(struct kctx *k, uint32_t threads);
    /* Waits for everything enqueued. 0, or the first failure since the last sync: -ENOMEM, -EIO;
     * -ENODEV: the device is lost to this process, and every later call says the same. */
    int (*sync)(struct kctx *k);

    /* Rows that an activation buffer needs for a batch of N: kernels work on a ladder of row
     * counts. */
    uint32_t (*rows)(uint32_t N);
    /* Takes `bytes` from the device now, so that later allocs need not ask for them. 0, -ENOMEM. */
    int (*reserve)(size_t bytes);
    /* Device memory, 64-byte aligned, zeroed. Given back only when nothing enqueued uses it. */
    int (*alloc)(size_t bytes, void **ret_data);
    void (*dealloc)(void *data);
    /* Shared memory, 64-byte aligned, zeroed: one address for host and device. */
    int (*alloc_shared)(size_t bytes, void **ret_data);
    void (*dealloc_shared)(void *data);
    /* Copies n fp32 values in, rounding to nearest even where dtype is K_BF16. Done on return;
     * nothing enqueued may use them. Runs beside the work of contexts. 0, -EIO, -ENODEV. */
    int (*upload)(void *device, enum kdtype dtype, const float *host, size_t n);
    /* And out: n values as fp32. */
    int (*download)(float *host, const void *device, enum kdtype dtype, size_t n);
    /* Bytes of device memory that this process holds, and that the device has; 0: not counted. */
    void (*memory)(uint64_t *ret_used, uint64_t *ret_total);
    /* The device's clock, and the share of the last moments in which it had work (all processes').
     * 0, -ENOTSUP: nobody says. */
    int (*activity)(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz);

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

/* What a loadable backend exports; backend_load.h calls it. ordinal: which device. 0 with a table
 * that lives as long as the process; -EPROTO (another BACKEND_ABI), -ENODEV (no driver, no such
 * device, or an unfit one), -ENOMEM, -EIO: `why` says it in a sentence for a person. */
int learnd_backend_open(uint32_t abi, uint32_t ordinal, char *why, size_t why_bytes,
                        const struct backend **ret_backend);

#endif
