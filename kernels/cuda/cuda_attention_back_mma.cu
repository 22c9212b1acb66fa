/* cuda_attention_back_mma.cu -- attention backwards by tensor cores (Dao, "FlashAttention-2",
 * 2023): bf16 products, fp32 sums, no atomics. The formulas are those of cuda_attention_back.cu.
 *
 * Two kernels of one form, so that every gradient is one warp's sum: over queries (dQ), whose warps
 * have 16 queries and their dy in registers while keys and values come by tiles; and over keys (dK,
 * dV), whose warps have 16 keys and values while queries and dy come. S = Q K^T and dP = dY V^T are
 * made again in both, in the second one transposed; either way they come out as mma() wants P and
 * dS = P (dP - mean) back. What a query's probabilities need, the log of its sum and its mean of
 * dP, is found by a first pass of the first kernel and left in scratch.
 *
 * The first kernel goes over the tiles from first to last and, with what it has learnt, from last
 * to first: the scores of the last tile are still in registers, which for a text of up to 64 tokens
 * is all of them. P and dS are rounded to bf16 before they are multiplied; dS without its factor
 * 1/sqrt(dim), which the sums get in the end.
 */
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_tiles.h"

struct heads {
    const uint32_t *offsets;
    uint32_t C, H, T;
    float scale, log2_scale; /* 1/sqrt(dim); that in units of log2 */
};

/* Of a query: log2 of the sum of its powers of two, and sum_j dP P. (H,T) of them. */
struct query {
    float log_sum, mean;
};

/* The block's text and head, and its first row. */
struct place {
    uint32_t start, len, block_first, own, first; /* own: the warp's first row in the block */
    size_t column;
};

static __device__ struct place place_of(const struct heads &heads)
{
    const uint32_t b = blockIdx.x / heads.H;
    struct place at;

    at.start = heads.offsets[b];
    at.len = heads.offsets[b + 1] - at.start;
    at.block_first = blockIdx.y * (blockDim.x / LANES) * WARP_ROWS;
    at.own = threadIdx.x / LANES * WARP_ROWS;
    at.first = at.block_first + at.own;
    at.column = blockIdx.x % heads.H * (heads.C / heads.H);
    return at;
}

/* ---- over queries -----------------------------------------------------------------------------
 */

/* Two numbers a lane: of row g and of row g+8. */
struct sums {
    float most[2], total[2], mean[2];
};

/* One tile of keys into what is known of the queries, the lane's part; online, as the forward does.
 */
static __device__ void meet(struct sums *q, const float (&score)[TILE / 8][4],
                            const float (&dp)[TILE / 8][4])
{
#pragma unroll
    for (uint32_t row = 0; row < 2; row++) {
        float larger = q->most[row], factor;

        for (uint32_t j = 0; j < TILE / 8; j++)
            larger = fmaxf(larger, fmaxf(score[j][2 * row], score[j][2 * row + 1]));
        larger = quad_max(larger);
        factor = exp2f(q->most[row] - larger);
        q->most[row] = larger;
        q->total[row] *= factor;
        q->mean[row] *= factor;
        for (uint32_t j = 0; j < TILE / 8; j++)
            for (uint32_t i = 2 * row; i < 2 * row + 2; i++) {
                const float p = exp2f(score[j][i] - larger);

                q->total[row] += p;
                q->mean[row] += p * dp[j][i];
            }
    }
}

/* dq += dS keys. */
template <uint32_t DIM>
static __device__ void spend(float (&dq)[DIM / 8][4], const struct query (&q)[2],
                             const float (&score)[TILE / 8][4], const float (&dp)[TILE / 8][4],
                             const row<DIM> *keys, uint32_t rows)
{
#pragma unroll
    for (uint32_t j = 0; j < TILE / 8; j += 2) {
        float ds[2][4];

        if (8 * j >= rows)
            continue;
        for (uint32_t h = 0; h < 2; h++)
            for (uint32_t i = 0; i < 4; i++)
                ds[h][i] =
                    exp2f(score[j + h][i] - q[i / 2].log_sum) * (dp[j + h][i] - q[i / 2].mean);
        add_product<DIM>(dq, ds[0], ds[1], keys + 8 * j);
    }
}

/* Three blocks a multiprocessor: with heads of 64 it is a matter of 3 to 13 registers. */
template <uint32_t DIM>
static __global__ void __launch_bounds__(WARPS_MAX *LANES, 3)
    query_tiles(struct bf16 *dqkv, struct query *known, const struct bf16 *dy,
                const struct bf16 *qkv, struct heads heads)
{
    struct tile<DIM> *rooms = reinterpret_cast<struct tile<DIM> *>(shared_memory());
    const struct place at = place_of(heads);
    const uint32_t C = heads.C, len = at.len, tiles = (len + TILE - 1) / TILE;
    const size_t stride = 3 * (size_t)C;
    const struct bf16 *text = qkv + at.start * stride + at.column;
    const uint32_t lane = threadIdx.x % LANES, t = lane % 4;
    uint32_t q[DIM / 16][4], g[DIM / 16][4];
    float score[TILE / 8][4], dp[TILE / 8][4], dq[DIM / 8][4] = {};
    struct sums sums = {{-INFINITY, -INFINITY}, {0, 0}, {0, 0}};
    struct query mine[2] = {};

    if (at.block_first >= len)
        return;
    fetch<DIM>(rooms[1].a, text, stride, at.block_first, len);
    fetch<DIM>(rooms[1].b, dy + at.start * (size_t)C + at.column, C, at.block_first, len);
    fetch<DIM>(rooms[0].a, text + C, stride, 0, len);
    fetch<DIM>(rooms[0].b, text + 2 * C, stride, 0, len);
    copies_wait();
    __syncthreads();
    if (at.first < len) {
        take_rows<DIM>(q, rooms[1].a + at.own);
        take_rows<DIM>(g, rooms[1].b + at.own);
    }
    for (uint32_t step = 0; step < 2 * tiles - 1; step++) {
        const uint32_t from = (step < tiles ? step : 2 * tiles - 2 - step) * TILE;
        const uint32_t next = (step + 1 < tiles ? step + 1 : 2 * tiles - 3 - step) * TILE;
        const uint32_t rows = len - from < TILE ? len - from : TILE;
        const struct tile<DIM> *kv = &rooms[step % 2];

        copies_wait();
        __syncthreads();
        if (step + 1 < 2 * tiles - 1) {
            fetch<DIM>(rooms[(step + 1) % 2].a, text + C, stride, next, len);
            fetch<DIM>(rooms[(step + 1) % 2].b, text + 2 * C, stride, next, len);
        }
        if (at.first >= len)
            continue;
#pragma unroll
        for (uint32_t j = 0; j < TILE / 8; j++) {
            if (8 * j < rows) {
                product<DIM>(score[j], q, kv->a + 8 * j);
                product<DIM>(dp[j], g, kv->b + 8 * j);
            }
            for (uint32_t i = 0; i < 4; i++) {
                const bool there = 8 * j + 2 * t + i % 2 < rows;

                score[j][i] = there ? score[j][i] * heads.log2_scale : -INFINITY;
                dp[j][i] = there ? dp[j][i] : 0;
            }
        }
        if (step < tiles)
            meet(&sums, score, dp);
        for (uint32_t r = 0; r < 2 && step == tiles - 1; r++) {
            const float total = quad_sum(sums.total[r]);
            const uint32_t n = at.first + lane / 4 + 8 * r;

            mine[r].log_sum = sums.most[r] + log2f(total);
            mine[r].mean = quad_sum(sums.mean[r]) / total;
            if (t == 0 && n < len)
                known[(size_t)(blockIdx.x % heads.H) * heads.T + at.start + n] = mine[r];
        }
        if (step >= tiles - 1)
            spend<DIM>(dq, mine, score, dp, kv->a, rows);
    }
    if (at.first < len) {
        const float factor[2] = {heads.scale, heads.scale};

        write_rows<DIM>(dqkv + (at.start + at.first) * stride + at.column, stride, dq, factor,
                        rooms[1].a + at.own, len - at.first);
    }
}

/* ---- over keys --------------------------------------------------------------------------------
 */

/* A tile of queries: what is known of them, and their rows and dy. */
template <uint32_t DIM> struct query_tile {
    struct tile<DIM> rows;
    struct query known[TILE];
};

/* Rows that are not there are zeros in all, and add nothing whatever their probability. */
template <uint32_t DIM>
static __device__ void fetch_queries(struct query_tile<DIM> *to, const struct bf16 *queries,
                                     const struct bf16 *dy, const struct query *known, uint32_t C,
                                     uint32_t first, uint32_t len)
{
    fetch<DIM>(to->rows.a, queries, 3 * (size_t)C, first, len);
    fetch<DIM>(to->rows.b, dy, C, first, len);
    for (uint32_t i = threadIdx.x; i < TILE; i += blockDim.x)
        copy_8(&to->known[i], known + first + i, first + i < len);
}

template <uint32_t DIM>
static __global__ void key_tiles(struct bf16 *dqkv, const struct query *known,
                                 const struct bf16 *dy, const struct bf16 *qkv, struct heads heads)
{
    struct query_tile<DIM> *rooms = reinterpret_cast<struct query_tile<DIM> *>(shared_memory());
    const struct place at = place_of(heads);
    const uint32_t C = heads.C, len = at.len, tiles = (len + TILE - 1) / TILE;
    const uint32_t t = threadIdx.x % 4;
    const size_t stride = 3 * (size_t)C;
    const struct bf16 *text = qkv + at.start * stride + at.column;
    uint32_t k[DIM / 16][4], v[DIM / 16][4];
    float dk[DIM / 8][4] = {}, dv[DIM / 8][4] = {};

    if (at.block_first >= len)
        return;
    dy += at.start * (size_t)C + at.column;
    known += (size_t)(blockIdx.x % heads.H) * heads.T + at.start;
    fetch<DIM>(rooms[1].rows.a, text + C, stride, at.block_first, len);
    fetch<DIM>(rooms[1].rows.b, text + 2 * C, stride, at.block_first, len);
    fetch_queries<DIM>(&rooms[0], text, dy, known, C, 0, len);
    copies_wait();
    __syncthreads();
    if (at.first < len) {
        take_rows<DIM>(k, rooms[1].rows.a + at.own);
        take_rows<DIM>(v, rooms[1].rows.b + at.own);
    }
    for (uint32_t step = 0; step < tiles; step++) {
        const struct query_tile<DIM> *queries = &rooms[step % 2];

        copies_wait();
        __syncthreads();
        if (step + 1 < tiles)
            fetch_queries<DIM>(&rooms[(step + 1) % 2], text, dy, known, C, (step + 1) * TILE, len);
        if (at.first >= len)
            continue;
#pragma unroll
        for (uint32_t j = 0; j < TILE; j += 16) {
            float p[2][4], ds[2][4];

            if (step * TILE + j >= len)
                continue;
            for (uint32_t h = 0; h < 2; h++) {
                product<DIM>(p[h], k, queries->rows.a + j + 8 * h);
                product<DIM>(ds[h], v, queries->rows.b + j + 8 * h);
                for (uint32_t i = 0; i < 4; i++) {
                    const struct query q = queries->known[j + 8 * h + 2 * t + i % 2];

                    p[h][i] = exp2f(p[h][i] * heads.log2_scale - q.log_sum);
                    ds[h][i] = p[h][i] * (ds[h][i] - q.mean);
                }
            }
            add_product<DIM>(dv, p[0], p[1], queries->rows.b + j);
            add_product<DIM>(dk, ds[0], ds[1], queries->rows.a + j);
        }
    }
    if (at.first < len) {
        struct bf16 *to = dqkv + (at.start + at.first) * stride + C + at.column;
        const float factor[2] = {heads.scale, heads.scale}, one[2] = {1, 1};
        struct tile<DIM> *room = &rooms[tiles % 2].rows;

        write_rows<DIM>(to, stride, dk, factor, room->a + at.own, len - at.first);
        write_rows<DIM>(to + C, stride, dv, one, room->b + at.own, len - at.first);
    }
}

template <uint32_t DIM>
static void attention_back(struct kctx *k, void *dqkv, struct query *known, const void *dy,
                           const void *qkv, const struct heads &heads, dim3 grid, uint32_t threads)
{
    launch(k, grid, threads, 2 * sizeof(struct tile<DIM>), query_tiles<DIM>, dqkv, known, dy, qkv,
           heads);
    launch(k, grid, threads, 2 * sizeof(struct query_tile<DIM>), key_tiles<DIM>, dqkv, known, dy,
           qkv, heads);
}

void cuda_attention_back_mma(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                             const uint32_t *offsets, uint32_t longest, uint32_t B, uint32_t T,
                             uint32_t C, uint32_t H)
{
    const float scale = 1 / sqrtf((float)C / H);
    const struct heads heads = {offsets, C, H, T, scale, 1.44269504f * scale};
    const dim3 grid = tile_grid(longest, B * H);
    const uint32_t threads = tile_warps(longest) * LANES;
    struct query *known =
        static_cast<struct query *>(cuda_scratch(k, (size_t)T * H * sizeof *known));

    if (known == NULL)
        return;
    if (C / H == 32)
        attention_back<32>(k, dqkv.data, known, dy.data, qkv.data, heads, grid, threads);
    else
        attention_back<64>(k, dqkv.data, known, dy.data, qkv.data, heads, grid, threads);
}
