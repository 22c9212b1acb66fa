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

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct kctx; /* one thread's stream and scratch */
struct kmat; /* a linear map: its matrix, in the layout that the device wants, and its bias */

enum kdtype { K_F32, K_BF16 };
enum kact { K_NONE, K_GELU }; /* exact GELU: x Phi(x) */
enum kpool { K_POOL_MEAN, K_POOL_CLS };
/* Whose work a device takes first where it has both. */
enum kpriority { K_SERVING, K_TRAINING };

/* What memory is for, on a device that keeps each purpose's memory apart: weights that serve,
 * contexts that serve, runs. None breaks up another's. */
enum kroom { K_WEIGHTS, K_CONTEXTS, K_RUNS, K_ROOMS };
/* It is handed out in multiples of so many bytes. */
enum { K_ROOM_UNIT = 256 };

/* Of a loadable backend: it opens only for a daemon built with the same one. Raised with any change
 * of this header or of backend_training.h. */
enum { BACKEND_ABI = 4 };

struct kmemory {
    uint64_t total; /* bytes that the device has; 0: nothing is counted */
    uint64_t taken; /* of them by this process, and in what is handed out */
    uint64_t used;
    uint64_t asked; /* how often the driver was asked for more, shared memory included */
};

/* Device memory, borrowed. */
struct kview {
    void *data;
    enum kdtype dtype;
};

/* A packed batch: text b is rows offsets[b] .. offsets[b+1]-1. It may be wider than its texts are:
 * the last ones may be empty (what is pooled of those is arbitrary), and rows from offsets[seqs] on
 * belong to none (what comes out there is, too). So one shape serves many batches. */
struct kbatch {
    const uint32_t *offsets; /* (seqs+1) shared memory; offsets[0] = 0 */
    uint32_t seqs;           /* B */
    uint32_t tokens;         /* T, at least offsets[seqs] */
    uint32_t longest;        /* no text has more tokens; at most T */
};

/* Names a sequence of operations with all their arguments; only what stands in memory is not of it.
 */
struct kkey {
    uint64_t whose; /* weights: a number that is never given to others */
    uint32_t seqs, tokens, longest;
    uint32_t how; /* whatever else sets two sequences of one shape apart */
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
    /* Takes so much of both kinds from the device now, for what will be allocated in this room:
     * while that is enough nobody asks the device again. 0, -ENOMEM. */
    int (*reserve)(enum kroom room, size_t bytes, size_t shared_bytes);
    /* Device memory, 64-byte aligned, zeroed. Given back only when nothing enqueued uses it. */
    int (*alloc)(enum kroom room, size_t bytes, void **ret_data);
    void (*dealloc)(void *data);
    /* Shared memory, 64-byte aligned, zeroed: one address for host and device. */
    int (*alloc_shared)(enum kroom room, size_t bytes, void **ret_data);
    void (*dealloc_shared)(void *data);
    /* Copies n fp32 values in, rounding to nearest even where dtype is K_BF16. Done on return;
     * nothing enqueued may use them. Runs beside the work of contexts. 0, -EIO, -ENODEV. */
    int (*upload)(void *device, enum kdtype dtype, const float *host, size_t n);
    /* And out: n values as fp32. */
    int (*download)(float *host, const void *device, enum kdtype dtype, size_t n);
    void (*memory)(struct kmemory *ret_memory);
    /* To the byte, what of K_WEIGHTS mat_load takes, and what ctx_open does of K_CONTEXTS, or for
     * K_TRAINING of K_RUNS. */
    size_t (*mat_bytes)(uint32_t M, uint32_t K, enum kdtype dtype);
    size_t (*ctx_bytes)(uint32_t rows_max, enum kpriority priority);
    /* The device's clock, and the share of the last moments in which it had work (all processes').
     * 0, -ENOTSUP: nobody says. */
    int (*activity)(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz);

    /* To be told of operations one by one takes a device longer than a small batch's arithmetic.
     * widen: the shape that stands for this batch, one of a few, in its place (offsets are the
     * caller's to fill up), of at most seqs_max texts and rows_max rows; false: too large to gain
     * by it. repeat: enqueues what enqueue(ud) does, by calling it or, where the same key has been
     * before, as one launch. Between two syncs repeat stands alone. NULL, both: the device has
     * nothing to gain. */
    bool (*widen)(struct kbatch *batch, uint32_t seqs_max, uint32_t rows_max);
    void (*repeat)(struct kctx *k, const struct kkey *key, void (*enqueue)(void *ud), void *ud);

    /* w(M,K) and bias(M), or NULL, fp32 on the host -> the layout of linear(). dtype: what linear
     * computes in. */
    int (*mat_load)(const float *w, const float *bias, uint32_t M, uint32_t K, enum kdtype dtype,
                    struct kmat **ret_mat);
    void (*mat_free)(struct kmat *mat);

    /* y(T,C) = layernorm(word[id] + position[t - start] + segment[type]) gamma + beta. Tables in
     * their own dtype. types may be NULL: all 0. */
    void (*embed)(struct kctx *k, struct kview y, const int32_t *ids, const uint8_t *types,
                  const struct kbatch *batch, struct kview word, struct kview position,
                  struct kview segment, const float *gamma, const float *beta, float eps,
                  uint32_t C);
    /* y(N,M) = act(x(N,K) w(M,K)^T + bias(M)); fp32 accumulation. x and y have the dtype of w and
     * room for rows(N) rows; what stands in the rows from N on is neither read nor kept. */
    void (*linear)(struct kctx *k, struct kview y, struct kview x, const struct kmat *w,
                   enum kact act, uint32_t N);
    /* y(T,C) = softmax(q k^T / sqrt(C/H)) v for each text and head; qkv(T,3C): q, k, v side by
     * side. */
    void (*attention)(struct kctx *k, struct kview y, struct kview qkv, const struct kbatch *batch,
                      uint32_t C, uint32_t H);
    /* y(N,C) = layernorm(x + residual) gamma + beta. y may be x or residual. */
    void (*add_layernorm)(struct kctx *k, struct kview y, struct kview x, struct kview residual,
                          const float *gamma, const float *beta, float eps, uint32_t N, uint32_t C);
    /* y(B,C) fp32 = unit length of the mean (or the first) of each text's rows of x(T,C). */
    void (*pool)(struct kctx *k, float *y, struct kview x, const struct kbatch *batch, uint32_t C,
                 enum kpool how);

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

/* What an alloc of `bytes` takes. */
static inline size_t kroom_bytes(size_t bytes)
{
    return (bytes + K_ROOM_UNIT - 1) / K_ROOM_UNIT * K_ROOM_UNIT;
}

/* The cpu backend: oneDNN for linear, own loops (AVX-512, AVX2 or plain, chosen when first used)
 * for the rest. */
const struct backend *backend_cpu(void);

/* What a loadable backend exports; backend_load.h calls it. ordinal: which device. 0 with a table
 * that lives as long as the process; -EPROTO (another BACKEND_ABI), -ENODEV (no driver, no such
 * device, or an unfit one), -ENOMEM, -EIO: `why` says it in a sentence for a person. */
int learnd_backend_open(uint32_t abi, uint32_t ordinal, char *why, size_t why_bytes,
                        const struct backend **ret_backend);

#endif
