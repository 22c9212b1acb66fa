/* cpu_backend.c -- the cpu backend's table: oneDNN for linear, own SIMD loops for the rest.
 *
 * Operations run at once. With threads > 1 rows (or texts and heads) are shared out over an OpenMP
 * team; a row is computed by one thread whole, so that the number of threads changes nothing but
 * the time.
 */
#include "kernels/backend.h"

#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/cpu/cpu_ctx.h"
#include "kernels/cpu/cpu_head.h"
#include "kernels/cpu/cpu_linear.h"
#include "kernels/cpu/cpu_linear_training.h"
#include "kernels/cpu/simd.h"

enum { LARGE_PAGE_BYTES = 2 << 20, LARGE_BYTES_MIN = 8 << 20 };

/* OMP_THREAD_LIMIT may allow smaller teams, and oneDNN leaves work undone when its team is smaller
 * than the one it planned for. */
static uint32_t team_max(uint32_t threads)
{
    uint32_t limit = (uint32_t)omp_get_thread_limit();

    return threads < limit ? threads : limit;
}

static int ctx_open(uint32_t rows_max, uint32_t threads_max, enum kpriority priority,
                    struct kctx **ret_ctx)
{
    struct kctx *k = calloc(1, sizeof *k);
    int rc;

    (void)rows_max; /* scratch grows with the longest text, not with the batch */
    (void)priority; /* a thread's niceness is its own */
    if (k == NULL)
        return -ENOMEM;
    k->simd = simd_pick();
    k->threads = 1;
    k->threads_max = team_max(threads_max);
    rc = cpu_linear_open(&k->linear);
    if (rc != 0) {
        free(k);
        return rc;
    }
    *ret_ctx = k;
    return 0;
}

static void ctx_close(struct kctx *k)
{
    if (k == NULL)
        return;
    cpu_linear_close(k->linear);
    cpu_linear_training_close(k->linear_training);
    free(k->scratch);
    free(k->shared);
    free(k);
}

static void ctx_threads(struct kctx *k, uint32_t threads)
{
    k->threads = threads < 1 ? 1 : threads > k->threads_max ? k->threads_max : threads;
}

static int sync_ctx(struct kctx *k)
{
    int error = k->error;

    k->error = 0;
    return error;
}

void cpu_fail(struct kctx *k, int error)
{
    if (k->error == 0)
        k->error = error;
}

int cpu_scratch_reserve(struct kctx *k, size_t len)
{
    float *bigger;

    len = (len + 15) / 16 * 16;
    if (len <= k->scratch_len)
        return 0;
    bigger = aligned_alloc(64, len * k->threads_max * sizeof *bigger);
    if (bigger == NULL) {
        cpu_fail(k, -ENOMEM);
        return -ENOMEM;
    }
    free(k->scratch);
    k->scratch = bigger;
    k->scratch_len = len;
    return 0;
}

/* Large blocks are asked for in large pages: loops over all parameters are bound by memory, and the
 * cpu fetches ahead no further than a page's end (sum_squares over 12 M: 4.7 ms without, 2.9 with).
 */
static int alloc(enum kroom room, size_t bytes, void **ret_data)
{
    size_t align = bytes >= LARGE_BYTES_MIN ? LARGE_PAGE_BYTES : 64;
    size_t all = (bytes + align - 1) / align * align;
    void *data = aligned_alloc(align, all);

    (void)room;
    if (data == NULL)
        return -ENOMEM;
    if (align > 64)
        (void)madvise(data, all, MADV_HUGEPAGE); /* a kernel without them is only slower */
    memset(data, 0, all);
    *ret_data = data;
    return 0;
}

static int upload(void *device, enum kdtype dtype, const float *host, size_t n)
{
    if (dtype == K_BF16)
        simd_pick()->to_bf16(device, host, n);
    else
        memcpy(device, host, n * sizeof *host);
    return 0;
}

static int download(float *host, const void *device, enum kdtype dtype, size_t n)
{
    if (dtype == K_BF16)
        simd_pick()->from_bf16(host, device, n);
    else
        memcpy(host, device, n * sizeof *host);
    return 0;
}

/* The host's memory is nobody's to take before it is needed, and is not counted. */
static int reserve(enum kroom room, size_t bytes, size_t shared_bytes)
{
    (void)room;
    (void)bytes;
    (void)shared_bytes;
    return 0;
}

static void memory(struct kmemory *ret_memory)
{
    *ret_memory = (struct kmemory){0};
}

/* About: a packed matrix is a little larger. */
size_t cpu_mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return (size_t)M * K * (dtype == K_BF16 ? 2 : 4);
}

static size_t ctx_bytes(uint32_t rows_max, enum kpriority priority)
{
    (void)rows_max;
    (void)priority;
    return 0;
}

static int activity(uint32_t *ret_busy_percent, uint32_t *ret_clock_mhz)
{
    (void)ret_busy_percent;
    (void)ret_clock_mhz;
    return -ENOTSUP;
}

static void embed(struct kctx *k, struct kview y, const int32_t *ids, const uint8_t *types,
                  const struct kbatch *batch, struct kview word, struct kview position,
                  struct kview segment, const float *gamma, const float *beta, float eps,
                  uint32_t C)
{
    const uint32_t *offsets = batch->offsets;

    if (cpu_scratch_reserve(k, C) != 0)
        return;
    for (uint32_t b = 0; b < batch->seqs; b++)
        for (uint32_t t = offsets[b]; t < offsets[b + 1]; t++)
            k->simd->embed_row(cpu_at(y, (size_t)t * C), y.dtype, cpu_at(word, (size_t)ids[t] * C),
                               cpu_at(position, (size_t)(t - offsets[b]) * C),
                               cpu_at(segment, types != NULL ? (size_t)types[t] * C : 0),
                               word.dtype, gamma, beta, eps, C, k->scratch);
}

static void linear(struct kctx *k, struct kview y, struct kview x, const struct kmat *w,
                   enum kact act, uint32_t N)
{
    const uint32_t M = cpu_mat_columns(w);
    int rc = cpu_linear_run(k->linear, y.data, x.data, w, N, k->threads);

    if (rc != 0) {
        cpu_fail(k, rc);
        return;
    }
    if (act == K_GELU) {
        int threads = cpu_team(k, (size_t)N * M);

#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (uint32_t n = 0; n < N; n++)
            k->simd->gelu(cpu_at(y, (size_t)n * M), y.dtype, M);
    }
}

static void attention(struct kctx *k, struct kview y, struct kview qkv, const struct kbatch *batch,
                      uint32_t C, uint32_t H)
{
    const uint32_t *offsets = batch->offsets;
    uint32_t dim = C / H;
    int threads = cpu_team(k, (size_t)offsets[batch->seqs] * C);

    if (cpu_scratch_reserve(k, SIMD_ATTENTION_FLOATS(batch->longest, dim)) != 0)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t bh = 0; bh < batch->seqs * H; bh++) {
        uint32_t b = bh / H, h = bh % H, start = offsets[b], len = offsets[b + 1] - start;
        size_t row = (size_t)start * 3 * C + (size_t)h * dim;

        k->simd->attention(cpu_at(y, (size_t)start * C + (size_t)h * dim), C, cpu_at(qkv, row),
                           cpu_at(qkv, row + C), cpu_at(qkv, row + 2 * (size_t)C), 3 * C, y.dtype,
                           len, dim, k->scratch + k->scratch_len * (size_t)omp_get_thread_num());
    }
}

static void add_layernorm(struct kctx *k, struct kview y, struct kview x, struct kview residual,
                          const float *gamma, const float *beta, float eps, uint32_t N, uint32_t C)
{
    int threads = cpu_team(k, (size_t)N * C);

    if (cpu_scratch_reserve(k, C) != 0)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t n = 0; n < N; n++)
        k->simd->add_layernorm_row(cpu_at(y, (size_t)n * C), cpu_at(x, (size_t)n * C),
                                   cpu_at(residual, (size_t)n * C), y.dtype, gamma, beta, eps, C,
                                   k->scratch + k->scratch_len * (size_t)omp_get_thread_num());
}

static void pool(struct kctx *k, float *y, struct kview x, const struct kbatch *batch, uint32_t C,
                 enum kpool how)
{
    const uint32_t *offsets = batch->offsets;

    for (uint32_t b = 0; b < batch->seqs; b++)
        k->simd->pool_row(y + (size_t)b * C, cpu_at(x, (size_t)offsets[b] * C), x.dtype,
                          how == K_POOL_CLS ? 1 : offsets[b + 1] - offsets[b], C);
}

const struct backend *backend_cpu(void)
{
    static const struct backend table = {
        .name = "cpu",
        .training = &cpu_training,
        .ctx_open = ctx_open,
        .ctx_close = ctx_close,
        .ctx_threads = ctx_threads,
        .sync = sync_ctx,
        .rows = cpu_linear_rows,
        .alloc = alloc,
        .dealloc = free,
        .alloc_shared = alloc,
        .dealloc_shared = free,
        .reserve = reserve,
        .upload = upload,
        .download = download,
        .memory = memory,
        .mat_bytes = cpu_mat_bytes,
        .ctx_bytes = ctx_bytes,
        .activity = activity,
        .mat_load = cpu_mat_load,
        .mat_free = cpu_mat_free,
        .embed = embed,
        .linear = linear,
        .attention = attention,
        .add_layernorm = add_layernorm,
        .pool = pool,
        .head_features = cpu_head_features,
        .head_dense = cpu_head_dense,
        .head_similarity = cpu_head_similarity,
    };

    return &table;
}
