/* cpu_training.c -- the cpu backend's table of training: teams over rows, texts and columns. The
 * loops are in simd_training.c, the matrix products in cpu_linear_training.c.
 *
 * The same bits whatever the number of threads: a row, a head or a column is one thread's, first to
 * last. Sums over rows whose terms are made row by row (of layer norms' parameters) are cut into
 * chunks of CHUNK_ROWS; a chunk's sum is one thread's, and chunks are added in their order.
 */
#include <errno.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/backend_training.h"
#include "kernels/cpu/cpu_ctx.h"
#include "kernels/cpu/cpu_linear_training.h"
#include "kernels/cpu/cpu_loss.h"
#include "kernels/cpu/simd_training.h"

enum { CHUNK_ROWS = 32, SLICE_COLUMNS = 64, SLICE_VALUES = 1 << 15 };

static const struct simd_training *loops(const struct kctx *k)
{
    return k->simd->training;
}

void *cpu_shared_reserve(struct kctx *k, size_t len)
{
    float *bigger;

    if (len <= k->shared_len)
        return k->shared;
    len = (len + len / 4 + 15) / 16 * 16;
    bigger = aligned_alloc(64, len * sizeof *bigger);
    if (bigger == NULL) {
        cpu_fail(k, -ENOMEM);
        return NULL;
    }
    free(k->shared);
    k->shared = bigger;
    k->shared_len = len;
    return bigger;
}

static float *scratch_of_thread(const struct kctx *k)
{
    return k->scratch + k->scratch_len * (size_t)omp_get_thread_num();
}

/* ---- dropout --------------------------------------------------------------------------------- */

/* SplitMix64's finisher over key and site gives a row its two words. */
static struct simd_dropout row_dropout(const struct kdropout *dropout, uint32_t n)
{
    struct simd_dropout d = {0, 0, 0, 1};
    uint64_t z;

    if (dropout == NULL || dropout->p <= 0)
        return d;
    z = dropout->rows[n] + (dropout->site + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    z ^= z >> 31;
    d.a = (uint32_t)z;
    d.b = (uint32_t)(z >> 32);
    d.threshold = (uint32_t)fmin((double)dropout->p * 0x1p32, 0xffffffff);
    d.scale = 1 / (1 - dropout->p);
    return d;
}

/* ---- linear ---------------------------------------------------------------------------------- */

/* The primitives of training, made by its first operation; NULL: failed, and kept. */
static struct cpu_linear_training *products(struct kctx *k)
{
    if (k->linear_training == NULL) {
        int rc = cpu_linear_training_open(k->threads_max, &k->linear_training);

        if (rc != 0)
            cpu_fail(k, rc);
    }
    return k->linear_training;
}

static void cpu_train_mat_set(struct kctx *k, struct kmat_train *mat, const float *w)
{
    int rc = cpu_mat_train_set(mat, w, k->threads);

    if (rc != 0)
        cpu_fail(k, rc);
}

static void cpu_train_linear(struct kctx *k, struct kview y, struct kview x,
                             const struct kmat_train *w, const float *bias, uint32_t N)
{
    struct cpu_linear_training *linear_training = products(k);
    int rc = linear_training == NULL
                 ? 0
                 : cpu_linear_train(linear_training, y.data, x.data, w, bias, N, k->threads);

    if (rc != 0)
        cpu_fail(k, rc);
}

static void cpu_train_linear_dx(struct kctx *k, struct kview dx, struct kview dy,
                                const struct kmat_train *w, uint32_t N)
{
    struct cpu_linear_training *linear_training = products(k);
    int rc = linear_training == NULL
                 ? 0
                 : cpu_linear_dx(linear_training, dx.data, dy.data, w, N, k->threads);

    if (rc != 0)
        cpu_fail(k, rc);
}

static void cpu_train_linear_dw(struct kctx *k, float *dw, float *db, struct kview dy,
                                struct kview x, uint32_t M, uint32_t K, uint32_t N)
{
    struct cpu_linear_training *linear_training = products(k);
    int rc = linear_training == NULL
                 ? 0
                 : cpu_linear_dw(linear_training, dw, db, dy, x, M, K, N, k->threads);

    if (rc != 0)
        cpu_fail(k, rc);
}

/* ---- layer norm ------------------------------------------------------------------------------ */

/* Chunks' sums (chunks,2,C) of gamma and beta into where they go, in order. */
static void add_chunks(struct kctx *k, float *dgamma, float *dbeta, const float *sums,
                       uint32_t chunks, uint32_t C)
{
    loops(k)->column_sums(dgamma, sums, K_F32, chunks, 2 * C, 0, C);
    loops(k)->column_sums(dbeta, sums, K_F32, chunks, 2 * C, C, C);
}

static void cpu_train_embed(struct kctx *k, struct kview y, struct kview s, float *stats,
                            const int32_t *ids, const uint8_t *types, const uint32_t *offsets,
                            uint32_t B, const float *word, const float *position,
                            const float *segment, const float *gamma, const float *beta, float eps,
                            uint32_t C, const struct kdropout *dropout)
{
    struct simd_norm norm = {y.dtype, C, eps, gamma, beta};
    int threads = cpu_team(k, (size_t)offsets[B] * C);

    if (cpu_scratch_reserve(k, C) != 0)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t b = 0; b < B; b++)
        for (uint32_t t = offsets[b]; t < offsets[b + 1]; t++) {
            struct simd_dropout d = row_dropout(dropout, t);

            loops(k)->embed_row(
                &norm, cpu_at(y, (size_t)t * C), cpu_at(s, (size_t)t * C), stats + 2 * (size_t)t,
                word + (size_t)ids[t] * C, position + (size_t)(t - offsets[b]) * C,
                segment + (types != NULL ? (size_t)types[t] * C : 0), &d, scratch_of_thread(k));
        }
}

/* Tables' rows are added up in the order of the tokens, each thread in columns of its own. */
static void add_to_tables(struct kctx *k, float *dword, float *dposition, float *dsegment,
                          const float *ds, const int32_t *ids, const uint8_t *types,
                          const uint32_t *offsets, uint32_t B, uint32_t C)
{
    int threads = cpu_team(k, (size_t)offsets[B] * C);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t c = 0; c < C; c += SLICE_COLUMNS) {
        uint32_t len = C - c < SLICE_COLUMNS ? C - c : SLICE_COLUMNS;

        for (uint32_t b = 0; b < B; b++)
            for (uint32_t t = offsets[b]; t < offsets[b + 1]; t++) {
                const float *row = ds + (size_t)t * C + c;
                size_t segment = types != NULL ? types[t] : 0;

                loops(k)->add(dword + (size_t)ids[t] * C + c, K_F32, row, K_F32, len);
                loops(k)->add(dposition + (size_t)(t - offsets[b]) * C + c, K_F32, row, K_F32, len);
                loops(k)->add(dsegment + segment * C + c, K_F32, row, K_F32, len);
            }
    }
}

static void cpu_train_embed_back(struct kctx *k, float *dword, float *dposition, float *dsegment,
                                 float *dgamma, float *dbeta, struct kview dy, struct kview s,
                                 const float *stats, const int32_t *ids, const uint8_t *types,
                                 const uint32_t *offsets, uint32_t B, const float *gamma,
                                 uint32_t C, const struct kdropout *dropout)
{
    struct simd_norm norm = {dy.dtype, C, 0, gamma, NULL};
    uint32_t T = offsets[B], chunks = (T + CHUNK_ROWS - 1) / CHUNK_ROWS;
    float *ds = cpu_shared_reserve(k, ((size_t)T + 2 * (size_t)chunks) * C);
    float *sums = ds != NULL ? ds + (size_t)T * C : NULL;
    int threads = cpu_team(k, (size_t)T * C);

    if (ds == NULL)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t i = 0; i < chunks; i++) {
        float *sum = sums + 2 * (size_t)i * C;

        memset(sum, 0, 2 * C * sizeof *sum);
        for (uint32_t t = i * CHUNK_ROWS; t < T && t < (i + 1) * CHUNK_ROWS; t++) {
            struct simd_dropout d = row_dropout(dropout, t);
            size_t at = (size_t)t * C;

            loops(k)->layernorm_back_row(&norm, ds + at, sum, sum + C, cpu_at(dy, at), NULL,
                                         cpu_at(s, at), stats + 2 * (size_t)t, &d);
        }
    }
    add_chunks(k, dgamma, dbeta, sums, chunks, C);
    add_to_tables(k, dword, dposition, dsegment, ds, ids, types, offsets, B, C);
}

static void cpu_train_add_layernorm(struct kctx *k, struct kview y, struct kview s, float *stats,
                                    struct kview x, struct kview residual, const float *gamma,
                                    const float *beta, float eps, uint32_t N, uint32_t C,
                                    const struct kdropout *dropout)
{
    struct simd_norm norm = {y.dtype, C, eps, gamma, beta};
    int threads = cpu_team(k, (size_t)N * C);

    if (cpu_scratch_reserve(k, C) != 0)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t n = 0; n < N; n++) {
        struct simd_dropout d = row_dropout(dropout, n);
        size_t at = (size_t)n * C;

        loops(k)->add_layernorm_row(&norm, cpu_at(y, at), cpu_at(s, at), stats + 2 * (size_t)n,
                                    cpu_at(x, at), cpu_at(residual, at), &d, scratch_of_thread(k));
    }
}

static void cpu_train_add_layernorm_back(struct kctx *k, struct kview ds, struct kview dx,
                                         float *dgamma, float *dbeta, struct kview dy,
                                         struct kview dy2, struct kview s, const float *stats,
                                         const float *gamma, uint32_t N, uint32_t C,
                                         const struct kdropout *dropout)
{
    static const struct simd_dropout none = {0, 0, 0, 1};
    struct simd_norm norm = {dy.dtype, C, 0, gamma, NULL};
    uint32_t chunks = (N + CHUNK_ROWS - 1) / CHUNK_ROWS;
    float *sums = cpu_shared_reserve(k, 2 * (size_t)chunks * C);
    int threads = cpu_team(k, (size_t)N * C);

    if (sums == NULL || cpu_scratch_reserve(k, C) != 0)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t i = 0; i < chunks; i++) {
        float *sum = sums + 2 * (size_t)i * C, *row = scratch_of_thread(k);

        memset(sum, 0, 2 * C * sizeof *sum);
        for (uint32_t n = i * CHUNK_ROWS; n < N && n < (i + 1) * CHUNK_ROWS; n++) {
            struct simd_dropout d = row_dropout(dropout, n);
            size_t at = (size_t)n * C;

            loops(k)->layernorm_back_row(&norm, row, sum, sum + C, cpu_at(dy, at),
                                         dy2.data != NULL ? cpu_at(dy2, at) : NULL, cpu_at(s, at),
                                         stats + 2 * (size_t)n, &none);
            loops(k)->spread_row(cpu_at(ds, at), cpu_at(dx, at), ds.dtype, row, &d, C);
        }
    }
    add_chunks(k, dgamma, dbeta, sums, chunks, C);
}

/* ---- gelu, attention, pool ------------------------------------------------------------------- */

static void cpu_train_gelu(struct kctx *k, struct kview y, struct kview x, uint32_t N, uint32_t M)
{
    int threads = cpu_team(k, (size_t)N * M);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t n = 0; n < N; n++)
        loops(k)->gelu(cpu_at(y, (size_t)n * M), cpu_at(x, (size_t)n * M), y.dtype, M);
}

static void cpu_train_gelu_back(struct kctx *k, struct kview dx, struct kview dy, struct kview x,
                                uint32_t N, uint32_t M)
{
    int threads = cpu_team(k, (size_t)N * M);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t n = 0; n < N; n++)
        loops(k)->gelu_back(cpu_at(dx, (size_t)n * M), cpu_at(dy, (size_t)n * M),
                            cpu_at(x, (size_t)n * M), dx.dtype, M);
}

static void cpu_train_attention_back(struct kctx *k, struct kview dqkv, struct kview dy,
                                     struct kview qkv, const uint32_t *offsets, uint32_t B,
                                     uint32_t C, uint32_t H)
{
    uint32_t dim = C / H, longest = 0;
    int threads = cpu_team(k, (size_t)offsets[B] * C);

    for (uint32_t b = 0; b < B; b++)
        if (offsets[b + 1] - offsets[b] > longest)
            longest = offsets[b + 1] - offsets[b];
    if (cpu_scratch_reserve(k, SIMD_ATTENTION_BACK_FLOATS(longest, dim)) != 0)
        return;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 4)
    for (uint32_t bh = 0; bh < B * H; bh++) {
        uint32_t b = bh / H, h = bh % H, start = offsets[b], len = offsets[b + 1] - start;
        size_t row = (size_t)start * 3 * C + (size_t)h * dim;

        loops(k)->attention_back(
            cpu_at(dqkv, row), cpu_at(dqkv, row + C), cpu_at(dqkv, row + 2 * (size_t)C),
            cpu_at(dy, (size_t)start * C + (size_t)h * dim), C, cpu_at(qkv, row),
            cpu_at(qkv, row + C), cpu_at(qkv, row + 2 * (size_t)C), 3 * C, dy.dtype, len, dim,
            scratch_of_thread(k));
    }
}

static void cpu_train_pool(struct kctx *k, float *y, float *length, struct kview x,
                           const uint32_t *offsets, uint32_t B, uint32_t C, enum kpool how)
{
    for (uint32_t b = 0; b < B; b++) {
        uint32_t len = how == K_POOL_CLS ? 1 : offsets[b + 1] - offsets[b];
        float *row = y + (size_t)b * C;

        memset(row, 0, C * sizeof *row);
        loops(k)->column_sums(row, cpu_at(x, (size_t)offsets[b] * C), x.dtype, len, C, 0, C);
        loops(k)->scale(row, K_F32, row, 1 / (float)len, C);
        length[b] = (float)sqrt(loops(k)->sum_squares(row, C));
        loops(k)->scale(row, K_F32, row, 1 / length[b], C);
    }
}

/* d(pooled) = (dy - y (y . dy)) / length, the same for each of the rows that were averaged. */
static void cpu_train_pool_back(struct kctx *k, struct kview dx, const float *dy, const float *y,
                                const float *length, const uint32_t *offsets, uint32_t B,
                                uint32_t C, enum kpool how)
{
    if (cpu_scratch_reserve(k, C) != 0)
        return;
    for (uint32_t b = 0; b < B; b++) {
        uint32_t start = offsets[b], len = offsets[b + 1] - start;
        const float *to = dy + (size_t)b * C, *from = y + (size_t)b * C;
        float along = k->simd->dot(to, from, C), *row = k->scratch;
        float share = 1 / (length[b] * (how == K_POOL_CLS ? 1 : (float)len));

        for (uint32_t c = 0; c < C; c++)
            row[c] = (to[c] - from[c] * along) * share;
        for (uint32_t t = 0; t < len; t++)
            loops(k)->scale(cpu_at(dx, (size_t)(start + t) * C), dx.dtype, row,
                            how == K_POOL_CLS && t > 0 ? 0 : 1, C);
    }
}

/* ---- sums and steps -------------------------------------------------------------------------- */

static uint32_t slices(size_t n)
{
    return (uint32_t)((n + SLICE_VALUES - 1) / SLICE_VALUES);
}

static size_t slice_len(size_t n, uint32_t slice)
{
    size_t from = (size_t)slice * SLICE_VALUES;

    return n - from < SLICE_VALUES ? n - from : SLICE_VALUES;
}

static void cpu_train_zero(struct kctx *k, float *x, size_t n)
{
    (void)k;
    memset(x, 0, n * sizeof *x);
}

static void cpu_train_add(struct kctx *k, struct kview y, struct kview x, size_t n)
{
    int threads = cpu_team(k, n);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t i = 0; i < slices(n); i++)
        loops(k)->add(cpu_at(y, (size_t)i * SLICE_VALUES), y.dtype,
                      cpu_at(x, (size_t)i * SLICE_VALUES), x.dtype, slice_len(n, i));
}

static double cpu_train_sum_squares(struct kctx *k, const float *x, size_t n)
{
    double *parts = cpu_shared_reserve(k, 2 * ((size_t)slices(n) + 1)), total = 0;
    int threads = cpu_team(k, n);

    if (parts == NULL)
        return 0;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t i = 0; i < slices(n); i++)
        parts[i] = loops(k)->sum_squares(x + (size_t)i * SLICE_VALUES, slice_len(n, i));
    for (uint32_t i = 0; i < slices(n); i++)
        total += parts[i];
    return total;
}

static void cpu_train_adamw(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n,
                            float scale, float lr, float beta1, float beta2, float eps,
                            float weight_decay, uint64_t step)
{
    double first = 1 - pow(beta1, (double)step), second = 1 - pow(beta2, (double)step);
    struct simd_adamw a = {scale,
                           (float)(1 - (double)lr * weight_decay),
                           beta1,
                           beta2,
                           eps,
                           (float)(lr / first),
                           (float)(1 / sqrt(second))};
    int threads = cpu_team(k, n);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t i = 0; i < slices(n); i++) {
        size_t at = (size_t)i * SLICE_VALUES;

        loops(k)->adamw(w + at, m + at, v + at, grad + at, slice_len(n, i), &a);
    }
}

/* The host's memory is not counted, and scratch grows with the first batches. */
static size_t cpu_train_scratch_bytes(const struct kshape *most)
{
    (void)most;
    return 0;
}

static int cpu_train_scratch_open(struct kctx *k, const struct kshape *most)
{
    (void)k;
    (void)most;
    return 0;
}

static size_t cpu_train_mat_bytes(uint32_t M, uint32_t K, enum kdtype dtype)
{
    return cpu_mat_bytes(M, K, dtype);
}

static size_t cpu_train_loss_bytes(const struct kloss *most)
{
    (void)most;
    return 0;
}

#define ENTRY(name) .name = cpu_train_##name,
const struct backend_training cpu_training = {BACKEND_TRAINING_OPERATIONS(ENTRY)};
#undef ENTRY

const struct backend_training *backend_cpu_training(void)
{
    return &cpu_training;
}
