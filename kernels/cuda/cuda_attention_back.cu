/* cuda_attention_back.cu -- attention backwards, the plain path: any dtype, any length, any head.
 * In fp32; the probabilities are computed again. bf16 with heads of 32 or 64 goes to the tensor
 * cores (cuda_attention_back_mma.cu).
 *
 *   dV = P^T dY, dP = dY V^T, dS = P (dP - sum_j dP P), dQ = dS K, dK = dS^T Q, 1/sqrt(dim) in dS
 *
 * Two kernels of one form, so that every gradient is one warp's sum and nothing is added to from
 * two sides: over queries, which leaves each query's maximum, sum and sum_j dP P behind and then
 * adds up dQ; and over keys, which adds up dK and dV. A block has 8 rows, those of the other side
 * come by tiles of 32; a lane has one of them while dS is made, and a column while it is spent.
 */
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t WARPS = 4, TILE = LANES, ROWS = 8, EACH = ROWS / WARPS;

/* Of a query: largest score, 1 / sum of the powers, sum_j dP P. */
static constexpr uint32_t STATS = 3;

struct heads {
    const uint32_t *offsets;
    uint32_t C, H;
    float scale;
};

/* The block's text, head and rows, and its shared memory. */
struct place {
    uint32_t start, len, first, dim, column;
    float *own, *other;     /* (ROWS, 2 dim) two rows each; (TILE, 2 dim + 1) */
    float *sums, *p, *rest; /* (ROWS, 2 dim); (TILE) of this warp; (TILE, STATS) */
};

static __device__ struct place place_of(const struct heads &heads)
{
    const uint32_t b = blockIdx.x / heads.H;
    struct place at;

    at.dim = heads.C / heads.H;
    at.start = heads.offsets[b];
    at.len = heads.offsets[b + 1] - at.start;
    at.first = blockIdx.y * ROWS;
    at.column = blockIdx.x % heads.H * at.dim;
    at.own = reinterpret_cast<float *>(shared_memory());
    at.sums = at.own + ROWS * 2 * at.dim;
    at.other = at.sums + ROWS * 2 * at.dim;
    at.rest = at.other + TILE * (2 * at.dim + 1);
    at.p = at.rest + TILE * STATS + threadIdx.x / LANES * 2 * TILE;
    return at;
}

static size_t shared_bytes_for(uint32_t dim)
{
    return (4 * ROWS * dim + TILE * (2 * dim + 1) + TILE * STATS + 2 * WARPS * TILE) *
           sizeof(float);
}

/* to(rows, 2 dim): rows of a and b side by side, from token `from` of the text on. */
template <typename T>
static __device__ void stage(float *to, uint32_t to_stride, const struct place &at, const T *a,
                             const T *b, uint32_t stride_a, uint32_t stride_b, uint32_t from,
                             uint32_t rows)
{
    for (uint32_t i = threadIdx.x; i < rows * at.dim; i += blockDim.x) {
        const uint32_t row = i / at.dim, d = i % at.dim;
        const size_t t = at.start + from + row, column = at.column + d;
        const bool in = from + row < at.len;

        to[row * to_stride + d] = in ? value(a[t * stride_a + column]) : 0;
        to[row * to_stride + at.dim + d] = in ? value(b[t * stride_b + column]) : 0;
    }
}

static __device__ float dot(const float *a, const float *b, uint32_t dim)
{
    float sum = 0;

    for (uint32_t d = 0; d < dim; d++)
        sum += a[d] * b[d];
    return sum;
}

/* sums(dim), the lane's columns, += p(rows)^T other(rows,dim). */
static __device__ void spend(float *sums, const float *p, const float *other, uint32_t rows,
                             uint32_t dim)
{
    for (uint32_t d = threadIdx.x % LANES; d < dim; d += LANES) {
        float sum = 0;

        for (uint32_t j = 0; j < rows; j++)
            sum += p[j] * other[j * (2 * dim + 1) + d];
        sums[d] += sum;
    }
}

/* ---- over queries -----------------------------------------------------------------------------
 */

struct query {
    float most, total, mean;
};

/* One tile of keys into what is known of a query: online, as the forward does. */
static __device__ void meet(struct query *q, float score, float dp)
{
    const float larger = fmaxf(q->most, warp_max(score)), factor = expf(q->most - larger);
    const float p = expf(score - larger);

    q->most = larger;
    q->total = q->total * factor + warp_sum(p);
    q->mean = q->mean * factor + warp_sum(p * dp);
}

template <typename T>
static __global__ void query_gradients(T *dqkv, float *stats, const T *dy, const T *qkv,
                                       struct heads heads)
{
    const struct place at = place_of(heads);
    const uint32_t warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, dim = at.dim;
    const uint32_t C = heads.C, wide = 2 * dim + 1;
    struct query known[EACH];

    if (at.first >= at.len)
        return;
    stage(at.own, 2 * dim, at, qkv, dy, 3 * C, C, at.first, ROWS);
    for (uint32_t i = threadIdx.x; i < ROWS * 2 * dim; i += blockDim.x)
        at.sums[i] = 0;
    for (uint32_t e = 0; e < EACH; e++)
        known[e] = {-INFINITY, 0, 0};
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t from = 0; from < at.len; from += TILE) {
            const uint32_t rows = at.len - from < TILE ? at.len - from : TILE;

            __syncthreads();
            stage(at.other, wide, at, qkv + C, qkv + 2 * C, 3 * C, 3 * C, from, TILE);
            __syncthreads();
            for (uint32_t e = 0; e < EACH; e++) {
                const uint32_t row = warp + e * WARPS;
                const float *own = at.own + row * 2 * dim, *other = at.other + lane * wide;
                const float score = lane < rows ? dot(own, other, dim) * heads.scale : -INFINITY;
                const float dp = dot(own + dim, other + dim, dim);

                if (pass == 0) {
                    meet(&known[e], score, dp);
                    continue;
                }
                at.p[lane] = expf(score - known[e].most) * known[e].total * (dp - known[e].mean) *
                             heads.scale;
                __syncwarp();
                spend(at.sums + row * 2 * dim, at.p, at.other, rows, dim);
                __syncwarp();
            }
        }
        for (uint32_t e = 0; e < EACH && pass == 0; e++) {
            known[e].total = 1 / known[e].total;
            known[e].mean *= known[e].total;
        }
    }
    for (uint32_t e = 0; e < EACH; e++) {
        const uint32_t row = warp + e * WARPS;
        const size_t t = at.start + at.first + row;

        if (at.first + row >= at.len)
            continue;
        for (uint32_t d = lane; d < dim; d += LANES)
            put(dqkv + t * 3 * C + at.column + d, at.sums[row * 2 * dim + d]);
        if (lane == 0) {
            float *to = stats + (t * heads.H + blockIdx.x % heads.H) * STATS;

            to[0] = known[e].most;
            to[1] = known[e].total;
            to[2] = known[e].mean;
        }
    }
}

/* ---- over keys --------------------------------------------------------------------------------
 */

template <typename T>
static __global__ void key_gradients(T *dqkv, const float *stats, const T *dy, const T *qkv,
                                     struct heads heads)
{
    const struct place at = place_of(heads);
    const uint32_t warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, dim = at.dim;
    const uint32_t C = heads.C, wide = 2 * dim + 1;

    if (at.first >= at.len)
        return;
    stage(at.own, 2 * dim, at, qkv + C, qkv + 2 * C, 3 * C, 3 * C, at.first, ROWS);
    for (uint32_t i = threadIdx.x; i < ROWS * 2 * dim; i += blockDim.x)
        at.sums[i] = 0;
    for (uint32_t from = 0; from < at.len; from += TILE) {
        const uint32_t rows = at.len - from < TILE ? at.len - from : TILE;

        __syncthreads();
        stage(at.other, wide, at, qkv, dy, 3 * C, C, from, TILE);
        for (uint32_t i = threadIdx.x; i < rows * STATS; i += blockDim.x)
            at.rest[i] =
                stats[((size_t)(at.start + from + i / STATS) * heads.H + blockIdx.x % heads.H) *
                          STATS +
                      i % STATS];
        __syncthreads();
        for (uint32_t e = 0; e < EACH; e++) {
            const uint32_t row = warp + e * WARPS;
            const float *own = at.own + row * 2 * dim, *other = at.other + lane * wide;
            const float *query = at.rest + lane * STATS;
            float p = 0, ds = 0;

            if (lane < rows) {
                p = expf(dot(own, other, dim) * heads.scale - query[0]) * query[1];
                ds = p * (dot(own + dim, other + dim, dim) - query[2]) * heads.scale;
            }
            at.p[lane] = ds;
            at.p[TILE + lane] = p;
            __syncwarp();
            spend(at.sums + row * 2 * dim, at.p, at.other, rows, dim);
            spend(at.sums + row * 2 * dim + dim, at.p + TILE, at.other + dim, rows, dim);
            __syncwarp();
        }
    }
    for (uint32_t e = 0; e < EACH; e++) {
        const uint32_t row = warp + e * WARPS;
        T *to = dqkv + (size_t)(at.start + at.first + row) * 3 * C + C + at.column;

        for (uint32_t d = lane; d < dim && at.first + row < at.len; d += LANES) {
            put(to + d, at.sums[row * 2 * dim + d]);
            put(to + C + d, at.sums[row * 2 * dim + dim + d]);
        }
    }
}

template <typename T>
static void attention_back(struct kctx *k, void *dqkv, float *stats, const void *dy,
                           const void *qkv, const struct heads &heads, dim3 grid)
{
    const size_t bytes = shared_bytes_for(heads.C / heads.H);

    launch(k, grid, WARPS * LANES, bytes, query_gradients<T>, dqkv, stats, dy, qkv, heads);
    launch(k, grid, WARPS * LANES, bytes, key_gradients<T>, dqkv, stats, dy, qkv, heads);
}

size_t cuda_attention_back_bytes(uint32_t T, uint32_t H)
{
    return (size_t)T * H * STATS * sizeof(float);
}

void cuda_attention_back(struct kctx *k, struct kview dqkv, struct kview dy, struct kview qkv,
                         const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H)
{
    struct heads heads = {cuda_offsets(k, offsets, B), C, H, 1 / sqrtf((float)C / H)};
    const uint32_t dim = C / H, longest = longest_text(offsets, B), T = offsets[B];
    const dim3 grid(B * H, (longest + ROWS - 1) / ROWS);
    float *stats;

    if (heads.offsets == NULL)
        return;
    if (dqkv.dtype == K_BF16 && (dim == 32 || dim == 64) && aligned(dqkv.data) &&
        aligned(dy.data) && aligned(qkv.data)) {
        cuda_attention_back_mma(k, dqkv, dy, qkv, heads.offsets, longest, B, T, C, H);
        return;
    }
    stats = static_cast<float *>(cuda_scratch(k, cuda_attention_back_bytes(T, H)));
    if (stats == NULL)
        return;
    if (dqkv.dtype == K_BF16)
        attention_back<struct bf16>(k, dqkv.data, stats, dy.data, qkv.data, heads, grid);
    else
        attention_back<float>(k, dqkv.data, stats, dy.data, qkv.data, heads, grid);
}
