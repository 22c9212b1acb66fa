/* cuda_norm.cu -- layer norm behind the embeddings and behind the residuals, for serving and for
 * training, and backwards.
 *
 * A warp has a row, and keeps it as fp32 in shared memory between the passes; a lane reads only
 * what it wrote. With xhat = (s - mean) / deviation and g = dy gamma,
 *   ds = (g - mean(g) - xhat mean(g xhat)) / deviation.
 * Gradients of gamma and beta are sums over rows: chunk by chunk, then the chunks in their order.
 */
#include "kernels/cuda/cuda_columns.h"
#include "kernels/cuda/cuda_ops.h"

/* Rows of a block, as far as shared memory reaches. */
static constexpr uint32_t WARPS = 4, ROW_BYTES_MAX = SHARED_BYTES_FREE / WARPS;

static uint32_t warps_for(uint32_t C)
{
    return C * sizeof(float) <= ROW_BYTES_MAX ? WARPS : 1;
}

struct norm {
    const float *gamma, *beta;
    float eps;
    uint32_t C;
};

/* y(C) = dropout(layernorm(row)), the lane's part. */
template <typename T, uint32_t V>
static __device__ void norm_row(T *y, float *stats, const float *row, const struct norm &norm,
                                const struct dropout_row &drops)
{
    const uint32_t lane = threadIdx.x % LANES;
    float sum = 0, squares = 0, mean, inverse;

    for (uint32_t c = lane * V; c < norm.C; c += LANES * V)
        for (uint32_t i = 0; i < V; i++)
            sum += row[c + i];
    mean = warp_sum(sum) / norm.C;
    for (uint32_t c = lane * V; c < norm.C; c += LANES * V)
        for (uint32_t i = 0; i < V; i++)
            squares += (row[c + i] - mean) * (row[c + i] - mean);
    inverse = 1 / sqrtf(warp_sum(squares) / norm.C + norm.eps);
    if (stats != NULL && lane == 0) {
        stats[0] = mean;
        stats[1] = inverse;
    }
    for (uint32_t c = lane * V; c < norm.C; c += LANES * V) {
        float gamma[V], out[V];

        load(gamma, norm.gamma + c);
        load(out, norm.beta + c);
        for (uint32_t i = 0; i < V; i++)
            out[i] = drop((row[c + i] - mean) * inverse * gamma[i] + out[i], c + i, drops);
        store(y + c, out);
    }
}

/* The row of this warp, and its place in shared memory. */
static __device__ uint32_t row_of_warp(void)
{
    return blockIdx.x * (blockDim.x / LANES) + threadIdx.x / LANES;
}

static __device__ float *room_of_warp(uint32_t C)
{
    return reinterpret_cast<float *>(shared_memory()) + threadIdx.x / LANES * (size_t)C;
}

/* ---- embeddings -------------------------------------------------------------------------------
 */

struct texts {
    const int32_t *ids;
    const uint8_t *types; /* NULL: all 0 */
    const uint32_t *offsets;
    uint32_t B;
};

template <typename T, typename Table, uint32_t V>
static __global__ void embed_rows(T *y, T *s, float *stats, struct texts texts, const Table *word,
                                  const Table *position, const Table *segment, struct norm norm,
                                  struct dropout_site site)
{
    const uint32_t t = row_of_warp(), C = norm.C;
    float *row = room_of_warp(C);
    size_t type;

    if (t >= texts.offsets[texts.B])
        return;
    word += (size_t)texts.ids[t] * C;
    position += (size_t)(t - texts.offsets[text_of(texts.offsets, texts.B, t)]) * C;
    type = texts.types != NULL ? texts.types[t] : 0;
    segment += type * C;
    for (uint32_t c = threadIdx.x % LANES * V; c < C; c += LANES * V) {
        float sum[V], part[V];

        load(sum, word + c);
        load(part, segment + c);
        for (uint32_t i = 0; i < V; i++)
            sum[i] += part[i];
        load(part, position + c);
        for (uint32_t i = 0; i < V; i++)
            row[c + i] = sum[i] += part[i];
        if (s != NULL)
            store(s + (size_t)t * C + c, sum);
    }
    norm_row<T, V>(y + (size_t)t * C, stats != NULL ? stats + 2 * (size_t)t : NULL, row, norm,
                   dropout_of(site, t));
}

void cuda_embed(struct kctx *k, struct kview y, struct kview s, float *stats, const int32_t *ids,
                const uint8_t *types, const struct kbatch *batch, struct kview word,
                struct kview position, struct kview segment, const float *gamma, const float *beta,
                float eps, uint32_t C, const struct kdropout *dropout)
{
    struct texts texts = {ids, types, cuda_offsets(k, batch->offsets, batch->seqs), batch->seqs};
    struct norm norm = {gamma, beta, eps, C};
    const uint32_t warps = warps_for(C), blocks = (batch->tokens + warps - 1) / warps;
    bool wide = C % 8 == 0 && aligned(y.data) && aligned(s.data) && aligned(word.data) &&
                aligned(position.data) && aligned(segment.data) && aligned(gamma) && aligned(beta);

    if (texts.offsets == NULL)
        return;
    by_kind(y.dtype, wide, [&](auto how) {
        using H = decltype(how);
        using T = typename H::type;

        if (word.dtype == y.dtype)
            launch(k, blocks, warps * LANES, warps * C * sizeof(float), embed_rows<T, T, H::wide>,
                   y.data, s.data, stats, texts, word.data, position.data, segment.data, norm,
                   site_of(dropout));
        else
            launch(k, blocks, warps * LANES, warps * C * sizeof(float),
                   embed_rows<T, float, H::wide>, y.data, s.data, stats, texts, word.data,
                   position.data, segment.data, norm, site_of(dropout));
    });
}

/* ---- residuals --------------------------------------------------------------------------------
 */

template <typename T, uint32_t V>
static __global__ void add_norm_rows(T *y, T *s, float *stats, const T *x, const T *residual,
                                     uint32_t N, struct norm norm, struct dropout_site site)
{
    const uint32_t n = row_of_warp(), C = norm.C;
    const size_t at = (size_t)n * C;
    struct dropout_row drops, none = {0, 0, 0, 1};
    float *row = room_of_warp(C);

    if (n >= N)
        return;
    drops = dropout_of(site, n);
    for (uint32_t c = threadIdx.x % LANES * V; c < C; c += LANES * V) {
        float sum[V], part[V];

        load(part, x + at + c);
        load(sum, residual + at + c);
        for (uint32_t i = 0; i < V; i++)
            row[c + i] = sum[i] += drop(part[i], c + i, drops);
        if (s != NULL)
            store(s + at + c, sum);
    }
    norm_row<T, V>(y + at, stats != NULL ? stats + 2 * (size_t)n : NULL, row, norm, none);
}

void cuda_add_layernorm(struct kctx *k, struct kview y, struct kview s, float *stats,
                        struct kview x, struct kview residual, const float *gamma,
                        const float *beta, float eps, uint32_t N, uint32_t C,
                        const struct kdropout *dropout)
{
    struct norm norm = {gamma, beta, eps, C};
    const uint32_t warps = warps_for(C), blocks = (N + warps - 1) / warps;
    bool wide = C % 8 == 0 && aligned(y.data) && aligned(s.data) && aligned(x.data) &&
                aligned(residual.data) && aligned(gamma) && aligned(beta);

    by_kind(y.dtype, wide, [&](auto how) {
        using H = decltype(how);

        launch(k, blocks, warps * LANES, warps * C * sizeof(float),
               add_norm_rows<typename H::type, H::wide>, y.data, s.data, stats, x.data,
               residual.data, N, norm, site_of(dropout));
    });
}

/* ---- backwards --------------------------------------------------------------------------------
 */

/* dy + dy2, what dropout leaves of it where it stands behind the norm. */
template <typename T, uint32_t V>
static __device__ void gradient_of(float (&d)[V], const T *dy, const T *dy2, size_t at, uint32_t c,
                                   const struct dropout_row &behind)
{
    float more[V];

    load(d, dy + at + c);
    if (dy2 != NULL)
        load(more, dy2 + at + c);
    for (uint32_t i = 0; i < V; i++)
        d[i] = drop(dy2 != NULL ? d[i] + more[i] : d[i], c + i, behind);
}

/* ds of type S (fp32, or as dy), and dx = ds where dropout before the norm keeps x; dx may be
 * NULL. ds may be dy or dy2: a lane has read what it writes. */
template <typename T, typename S, uint32_t V>
static __global__ void norm_back_rows(S *ds, T *dx, const T *dy, const T *dy2, const T *s,
                                      const float *stats, const float *gamma, uint32_t N,
                                      uint32_t C, struct dropout_site before,
                                      struct dropout_site behind)
{
    const uint32_t n = row_of_warp();
    const size_t at = (size_t)n * C;
    struct dropout_row first, last;
    float *row = room_of_warp(C), sum = 0, sum_xhat = 0, mean, inverse;

    if (n >= N)
        return;
    first = dropout_of(before, n);
    last = dropout_of(behind, n);
    mean = stats[2 * (size_t)n];
    inverse = stats[2 * (size_t)n + 1];
    for (uint32_t c = threadIdx.x % LANES * V; c < C; c += LANES * V) {
        float d[V], x[V], scale[V];

        gradient_of(d, dy, dy2, at, c, last);
        load(x, s + at + c);
        load(scale, gamma + c);
        for (uint32_t i = 0; i < V; i++) {
            row[c + i] = d[i] * scale[i];
            sum += row[c + i];
            sum_xhat += row[c + i] * (x[i] - mean) * inverse;
        }
    }
    sum = warp_sum(sum) / C;
    sum_xhat = warp_sum(sum_xhat) / C;
    for (uint32_t c = threadIdx.x % LANES * V; c < C; c += LANES * V) {
        float x[V], out[V];

        load(x, s + at + c);
        for (uint32_t i = 0; i < V; i++)
            out[i] = (row[c + i] - sum - (x[i] - mean) * inverse * sum_xhat) * inverse;
        store(ds + at + c, out);
        for (uint32_t i = 0; i < V; i++)
            out[i] = drop(out[i], c + i, first);
        if (dx != NULL)
            store(dx + at + c, out);
    }
}

/* Terms of the gradients of gamma (first) and beta (second) in one value of the batch. */
template <typename T> struct norm_terms {
    const T *dy, *dy2, *s;
    const float *stats;
    struct dropout_site behind;
    uint32_t C;

    __device__ float2 operator()(uint32_t n, uint32_t c) const
    {
        size_t at = (size_t)n * C + c;
        float d = value(dy[at]) + (dy2 != NULL ? value(dy2[at]) : 0);

        d = drop(d, c, dropout_of(behind, n));
        return make_float2(d * (value(s[at]) - stats[2 * (size_t)n]) * stats[2 * (size_t)n + 1], d);
    }
};

template <typename T>
static void norm_back(struct kctx *k, struct kview ds, struct kview dx, float *dgamma, float *dbeta,
                      void *parts, const struct norm_inputs *b)
{
    const uint32_t C = b->C, N = b->N, warps = warps_for(C), blocks = (N + warps - 1) / warps;
    const size_t shared_bytes = warps * C * sizeof(float);
    struct norm_terms<T> terms = {
        static_cast<T *>(b->dy.data), static_cast<T *>(b->dy2.data),
            static_cast<T *>(b->s.data), b->stats, site_of(b->behind), C
    };
    bool wide = C % 8 == 0 && aligned(ds.data) && aligned(dx.data) && aligned(b->dy.data) &&
                aligned(b->dy2.data) && aligned(b->s.data) && aligned(b->gamma);

    /* Before ds is written: it may stand where dy stands. */
    column_sums(k, dgamma, dbeta, parts, terms, N, C);
    by_kind(b->dy.dtype, wide, [&](auto how) {
        using H = decltype(how);
        using U = typename H::type;

        if (ds.dtype == b->dy.dtype)
            launch(k, blocks, warps * LANES, shared_bytes, norm_back_rows<U, U, H::wide>, ds.data,
                   dx.data, b->dy.data, b->dy2.data, b->s.data, b->stats, b->gamma, N, C,
                   site_of(b->before), site_of(b->behind));
        else
            launch(k, blocks, warps * LANES, shared_bytes, norm_back_rows<U, float, H::wide>,
                   ds.data, dx.data, b->dy.data, b->dy2.data, b->s.data, b->stats, b->gamma, N, C,
                   site_of(b->before), site_of(b->behind));
    });
}

void cuda_norm_back(struct kctx *k, struct kview ds, struct kview dx, float *dgamma, float *dbeta,
                    void *parts, const struct norm_inputs *b)
{
    if (b->dy.dtype == K_BF16)
        norm_back<struct bf16>(k, ds, dx, dgamma, dbeta, parts, b);
    else
        norm_back<float>(k, ds, dx, dgamma, dbeta, parts, b);
}
