/* cuda_attention_mma.cu -- attention over packed texts by tensor cores (Dao, "FlashAttention-2",
 * 2023): bf16 products, fp32 sums, online softmax.
 *
 * A warp has 16 queries of one head of one text, in registers from first to last; keys and values
 * come by tiles of 64 through shared memory. The scores of a warp's queries come out of mma() in
 * the layout in which it wants the probabilities back, so they never leave registers. Tiles begin
 * at the text's own first token: a text's bits do not depend on its neighbours.
 *
 * Rows in shared memory are 8 values longer than a head, so that the 32 lanes of a load fall on 32
 * banks.
 */
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t WARPS_MAX = 4, QUERIES = 16, TILE = 64, PAD = 8;

template <uint32_t DIM> struct tile {
    struct bf16 keys[TILE][DIM + PAD], values[TILE][DIM + PAD];
};

static __device__ uint32_t pair_at(const struct bf16 *p)
{
    return *reinterpret_cast<const uint32_t *>(p);
}

/* rows keys and values, 16 bytes at once; zeros up to TILE, since 0 times NaN is NaN. */
template <uint32_t DIM>
static __device__ void stage(struct tile<DIM> *kv, const struct bf16 *keys,
                             const struct bf16 *values, size_t stride, uint32_t rows)
{
    constexpr uint32_t PIECES = DIM / 8;

    for (uint32_t i = threadIdx.x; i < TILE * PIECES; i += blockDim.x) {
        const uint32_t row = i / PIECES, d = i % PIECES * 8;
        uint4 key = make_uint4(0, 0, 0, 0), v = key;

        if (row < rows) {
            key = *reinterpret_cast<const uint4 *>(keys + row * stride + d);
            v = *reinterpret_cast<const uint4 *>(values + row * stride + d);
        }
        *reinterpret_cast<uint4 *>(&kv->keys[row][d]) = key;
        *reinterpret_cast<uint4 *>(&kv->values[row][d]) = v;
    }
}

/* score = q keys^T in units of log2, -infinity from column `rows` on. */
template <uint32_t DIM>
static __device__ void scores_of(float (&score)[TILE / 8][4], const uint32_t (&q)[DIM / 16][4],
                                 const struct tile<DIM> *kv, uint32_t rows, float scale)
{
    const uint32_t g = threadIdx.x % LANES / 4, t = threadIdx.x % 4;

#pragma unroll
    for (uint32_t j = 0; j < TILE / 8; j++) {
        for (int i = 0; i < 4; i++)
            score[j][i] = 0;
        if (8 * j < rows) {
#pragma unroll
            for (uint32_t s = 0; s < DIM / 16; s++)
                mma(score[j], q[s], pair_at(&kv->keys[8 * j + g][16 * s + 2 * t]),
                    pair_at(&kv->keys[8 * j + g][16 * s + 2 * t + 8]));
        }
        for (uint32_t i = 0; i < 4; i++)
            score[j][i] = 8 * j + 2 * t + i % 2 < rows ? score[j][i] * scale : -INFINITY;
    }
}

/* Scores become powers of two below the row's maximum; out and total are brought to the same
 * maximum, and total grows by the lane's own part. Values 0, 1 are of row g, 2, 3 of row g+8. */
template <uint32_t DIM>
static __device__ void soften(float (&score)[TILE / 8][4], float (&out)[DIM / 8][4],
                              float (&most)[2], float (&total)[2])
{
#pragma unroll
    for (uint32_t row = 0; row < 2; row++) {
        float larger = most[row], factor;

        for (uint32_t j = 0; j < TILE / 8; j++)
            larger = fmaxf(larger, fmaxf(score[j][2 * row], score[j][2 * row + 1]));
        larger = fmaxf(larger, __shfl_xor_sync(ALL_LANES, larger, 1));
        larger = fmaxf(larger, __shfl_xor_sync(ALL_LANES, larger, 2));
        factor = exp2f(most[row] - larger);
        most[row] = larger;
        total[row] *= factor;
        for (uint32_t j = 0; j < TILE / 8; j++)
            for (uint32_t i = 2 * row; i < 2 * row + 2; i++) {
                score[j][i] = exp2f(score[j][i] - larger);
                total[row] += score[j][i];
            }
        for (uint32_t c = 0; c < DIM / 8; c++) {
            out[c][2 * row] *= factor;
            out[c][2 * row + 1] *= factor;
        }
    }
}

/* out += p values. */
template <uint32_t DIM>
static __device__ void add_values(float (&out)[DIM / 8][4], const float (&p)[TILE / 8][4],
                                  const struct tile<DIM> *kv, uint32_t rows)
{
    const uint32_t lane = threadIdx.x % LANES, matrix = lane / 8;

#pragma unroll
    for (uint32_t j = 0; j < TILE / 16; j++) {
        const uint32_t a[4] = {bf16_pair(p[2 * j][0], p[2 * j][1]),
                               bf16_pair(p[2 * j][2], p[2 * j][3]),
                               bf16_pair(p[2 * j + 1][0], p[2 * j + 1][1]),
                               bf16_pair(p[2 * j + 1][2], p[2 * j + 1][3])};

        if (16 * j >= rows)
            continue;
#pragma unroll
        for (uint32_t c = 0; c < DIM / 16; c++) {
            uint32_t b[4];

            load_transposed(
                b, &kv->values[16 * j + matrix % 2 * 8 + lane % 8][16 * c + matrix / 2 * 8]);
            mma(out[2 * c], a, b[0], b[1]);
            mma(out[2 * c + 1], a, b[2], b[3]);
        }
    }
}

template <uint32_t DIM>
static __device__ void write_row(struct bf16 *y, const float (&out)[DIM / 8][4], uint32_t row,
                                 float inverse)
{
    for (uint32_t c = 0; c < DIM / 8; c++)
        *reinterpret_cast<uint32_t *>(y + 8 * c + threadIdx.x % 4 * 2) =
            bf16_pair(out[c][2 * row] * inverse, out[c][2 * row + 1] * inverse);
}

template <uint32_t DIM>
static __global__ void attention_tiles(struct bf16 *y, const struct bf16 *qkv,
                                       const uint32_t *offsets, uint32_t H, float scale)
{
    struct tile<DIM> *kv = reinterpret_cast<struct tile<DIM> *>(shared_memory());
    const uint32_t b = blockIdx.x / H, h = blockIdx.x % H, C = H * DIM;
    const uint32_t start = offsets[b], len = offsets[b + 1] - start;
    const uint32_t block_first = blockIdx.y * (blockDim.x / LANES) * QUERIES;
    const uint32_t first = block_first + threadIdx.x / LANES * QUERIES;
    const uint32_t g = threadIdx.x % LANES / 4, t = threadIdx.x % 4;
    const size_t stride = 3 * (size_t)C;
    const struct bf16 *text = qkv + start * stride + h * DIM;
    uint32_t q[DIM / 16][4];
    float out[DIM / 8][4] = {}, score[TILE / 8][4];
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};

    if (block_first >= len)
        return;
    for (uint32_t s = 0; s < DIM / 16; s++)
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t row = first + g + i % 2 * 8, d = 16 * s + 2 * t + i / 2 * 8;

            q[s][i] = row < len ? pair_at(text + row * stride + d) : 0;
        }
    for (uint32_t from = 0; from < len; from += TILE) {
        const struct bf16 *keys = text + from * stride + C;
        const uint32_t rows = len - from < TILE ? len - from : TILE;

        __syncthreads();
        stage<DIM>(kv, keys, keys + C, stride, rows);
        __syncthreads();
        scores_of<DIM>(score, q, kv, rows, scale);
        soften<DIM>(score, out, most, total);
        add_values<DIM>(out, score, kv, rows);
    }
    for (uint32_t row = 0; row < 2; row++) {
        const uint32_t n = first + g + 8 * row;

        total[row] += __shfl_xor_sync(ALL_LANES, total[row], 1);
        total[row] += __shfl_xor_sync(ALL_LANES, total[row], 2);
        if (n < len)
            write_row<DIM>(y + (size_t)(start + n) * C + h * DIM, out, row, 1 / total[row]);
    }
}

void cuda_attention_mma(struct kctx *k, struct kview y, struct kview qkv, const uint32_t *offsets,
                        uint32_t longest, uint32_t B, uint32_t C, uint32_t H)
{
    const uint32_t needed = (longest + QUERIES - 1) / QUERIES;
    const uint32_t warps = needed < WARPS_MAX ? needed : WARPS_MAX;
    const dim3 grid(B * H, warps > 0 ? (needed + warps - 1) / warps : 0);
    const float scale = 1.44269504f / sqrtf((float)C / H); /* log2(e): powers are of two */

    if (C / H == 32)
        launch(k, grid, warps * LANES, sizeof(struct tile<32>), attention_tiles<32>, y.data,
               qkv.data, offsets, H, scale);
    else
        launch(k, grid, warps * LANES, sizeof(struct tile<64>), attention_tiles<64>, y.data,
               qkv.data, offsets, H, scale);
}
