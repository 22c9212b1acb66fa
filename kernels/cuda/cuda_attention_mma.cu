/* cuda_attention_mma.cu -- attention over packed texts by tensor cores (Dao, "FlashAttention-2",
 * 2023): bf16 products, fp32 sums, online softmax.
 *
 * A warp has 16 queries of one head of one text, in registers from first to last; keys and values
 * come by tiles of 64 through shared memory (cuda_tiles.h). The scores of a warp's queries come out
 * of mma() in the layout in which it wants the probabilities back, so they never leave registers.
 * Tiles begin at the text's own first token: a text's bits do not depend on its neighbours.
 */
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_tiles.h"

/* score = q keys^T in units of log2, -infinity from column `rows` on. */
template <uint32_t DIM>
static __device__ void scores_of(float (&score)[TILE / 8][4], const uint32_t (&q)[DIM / 16][4],
                                 const row<DIM> *keys, uint32_t rows, float scale)
{
    const uint32_t t = threadIdx.x % 4;

#pragma unroll
    for (uint32_t j = 0; j < TILE / 8; j++) {
        if (8 * j < rows)
            product<DIM>(score[j], q, keys + 8 * j);
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
        larger = quad_max(larger);
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

template <uint32_t DIM>
static __global__ void attention_tiles(struct bf16 *y, const struct bf16 *qkv,
                                       const uint32_t *offsets, uint32_t H, float scale)
{
    struct tile<DIM> *rooms = reinterpret_cast<struct tile<DIM> *>(shared_memory());
    const uint32_t b = blockIdx.x / H, h = blockIdx.x % H, C = H * DIM;
    const uint32_t start = offsets[b], len = offsets[b + 1] - start;
    const uint32_t block_first = blockIdx.y * (blockDim.x / LANES) * WARP_ROWS;
    const uint32_t own = threadIdx.x / LANES * WARP_ROWS, first = block_first + own;
    const size_t stride = 3 * (size_t)C;
    const struct bf16 *text = qkv + start * stride + h * DIM;
    uint32_t q[DIM / 16][4], room = 0;
    float out[DIM / 8][4] = {}, score[TILE / 8][4];
    float most[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};

    if (block_first >= len)
        return;
    fetch<DIM>(rooms[1].a, text, stride, block_first, len);
    fetch<DIM>(rooms[0].a, text + C, stride, 0, len);
    fetch<DIM>(rooms[0].b, text + 2 * C, stride, 0, len);
    copies_wait();
    __syncthreads();
    if (first < len)
        take_rows<DIM>(q, rooms[1].a + own);
    for (uint32_t from = 0; from < len; from += TILE, room ^= 1) {
        const uint32_t rows = len - from < TILE ? len - from : TILE;

        copies_wait();
        __syncthreads();
        if (from + TILE < len) {
            fetch<DIM>(rooms[room ^ 1].a, text + C, stride, from + TILE, len);
            fetch<DIM>(rooms[room ^ 1].b, text + 2 * C, stride, from + TILE, len);
        }
        if (first >= len)
            continue;
        scores_of<DIM>(score, q, rooms[room].a, rows, scale);
        soften<DIM>(score, out, most, total);
#pragma unroll
        for (uint32_t j = 0; j < TILE / 16; j++)
            if (16 * j < rows)
                add_product<DIM>(out, score[2 * j], score[2 * j + 1], rooms[room].b + 16 * j);
    }
    if (first < len) {
        const float inverse[2] = {1 / quad_sum(total[0]), 1 / quad_sum(total[1])};

        write_rows<DIM>(y + (size_t)(start + first) * C + h * DIM, C, out, inverse,
                        rooms[room].a + own, len - first);
    }
}

void cuda_attention_mma(struct kctx *k, struct kview y, struct kview qkv, const uint32_t *offsets,
                        uint32_t longest, uint32_t B, uint32_t C, uint32_t H)
{
    const uint32_t threads = tile_warps(longest) * LANES;
    const dim3 grid = tile_grid(longest, B * H);
    const float scale = 1.44269504f / sqrtf((float)C / H); /* log2(e): powers are of two */

    if (C / H == 32)
        launch(k, grid, threads, 2 * sizeof(struct tile<32>), attention_tiles<32>, y.data, qkv.data,
               offsets, H, scale);
    else
        launch(k, grid, threads, 2 * sizeof(struct tile<64>), attention_tiles<64>, y.data, qkv.data,
               offsets, H, scale);
}
