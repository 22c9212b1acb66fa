/* cuda_ctx.h -- the context of the CUDA backend, and how its operations launch kernels.
 *
 * A context is a stream, a cuBLASLt handle with a workspace, and scratch, which it takes when it is
 * opened; it grows only under what is larger than it was told of, and stays. The first failure is
 * kept until sync(); what is launched after it runs on garbage that nobody reads.
 * Private to kernels/cuda. C++, as all that includes it.
 */
#ifndef LEARND_CUDA_CTX_H
#define LEARND_CUDA_CTX_H

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime.h>

#include "kernels/cuda/cuda_lanes.h"
#include "kernels/cuda/cuda_math.h"

extern "C" {
#include "kernels/backend_training.h"
#include "kernels/cuda/cuda_blas.h"
}

struct kctx {
    cudaStream_t stream;
    enum kroom room; /* of its memory */
    struct cuda_blas *blas;
    int error; /* first failure */
    char *scratch;
    size_t scratch_bytes;
    /* The offsets of the batch in hand, on the device; what they are a copy of, since the last
     * sync. */
    const uint32_t *offsets_from;
    uint32_t offsets_len, offsets_room;
    uint32_t *offsets;
    struct cuda_graphs *graphs;
    bool recording; /* what is enqueued is recorded, and does not run */
    bool unfit;     /* and something in it could not be */
};

struct kmat {
    void *data;        /* (M,K) of dtype; the biases stand behind it */
    float *bias;       /* (M), or NULL */
    const void *fused; /* the same of dtype, which is what cuBLASLt adds to a product */
    uint32_t M, K;
    enum kdtype dtype;
    struct cuda_plans *plans;
};

struct kmat_train {
    void *data;
    uint32_t M, K;
    enum kdtype dtype;
};

/* The calling thread works on the backend's device. */
void cuda_here(void);
/* Keeps the first failure, as -errno. */
void cuda_fail(struct kctx *k, int error);
void cuda_check(struct kctx *k, cudaError_t error);
/* -ENOMEM, -EIO, or -ENODEV where the device is lost. 0 for cudaSuccess. */
int cuda_errno(cudaError_t error);
/* Scratch of the context, its contents arbitrary, until the next call. NULL: failed, and kept. */
void *cuda_scratch(struct kctx *k, size_t bytes);
/* offsets(B+1) on the device, until the next sync. NULL: failed, and kept. */
const uint32_t *cuda_offsets(struct kctx *k, const uint32_t *offsets, uint32_t B);
/* Device memory that is not zeroed. */
int cuda_take(enum kroom room, size_t bytes, void **ret_data);
void cuda_give(void *data);

static inline size_t element_bytes(enum kdtype dtype)
{
    return dtype == K_BF16 ? 2 : 4;
}

static inline uint32_t longest_text(const uint32_t *offsets, uint32_t B)
{
    uint32_t longest = 0;

    for (uint32_t b = 0; b < B; b++)
        if (offsets[b + 1] - offsets[b] > longest)
            longest = offsets[b + 1] - offsets[b];
    return longest;
}

static inline struct dropout_site site_of(const struct kdropout *d)
{
    struct dropout_site site = {NULL, 0, 0, 1};

    if (d == NULL || d->p <= 0)
        return site;
    site.rows = d->rows;
    site.site = d->site;
    site.threshold = (uint32_t)fmin((double)d->p * 4294967296.0, 4294967295.0);
    site.scale = 1 / (1 - d->p);
    return site;
}

/* Shared memory beyond this has to be asked for by name. */
static constexpr uint32_t SHARED_BYTES_FREE = 48 << 10;

/* grid blocks of `threads`; nothing where the grid is empty. */
template <typename... P, typename... A>
static void launch(struct kctx *k, dim3 grid, uint32_t threads, size_t shared_bytes,
                   void (*kernel)(P...), A... arguments)
{
    cudaLaunchConfig_t config = {};

    if (grid.x == 0 || grid.y == 0 || k->error == -ENODEV)
        return;
    cuda_here();
    config.gridDim = grid;
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = k->stream;
    if (shared_bytes > SHARED_BYTES_FREE)
        cuda_check(k, cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                           (int)shared_bytes));
    cuda_check(k, cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...));
}

/* ---- one kernel for each type and width -------------------------------------------------------
 */

template <typename T, uint32_t V> struct kind {
    using type = T;
    static constexpr uint32_t wide = V; /* values that one access moves */
};

static inline bool aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

/* f(kind): 16 bytes at once where `wide`. */
template <typename F> static void by_kind(enum kdtype dtype, bool wide, F f)
{
    if (dtype == K_BF16 && wide)
        f(kind<struct bf16, 8>());
    else if (dtype == K_BF16)
        f(kind<struct bf16, 1>());
    else if (wide)
        f(kind<float, 4>());
    else
        f(kind<float, 1>());
}

#endif
