/* cuda_attention.cu -- attention over packed texts, the plain path: any dtype, any length, any
 * head. bf16 with heads of 32 or 64 goes to the tensor cores (cuda_attention_mma.cu).
 *
 * A block has 8 queries of one head of one text. Keys and values come by tiles of 32 through shared
 * memory; a lane has a key while scores are made, and a column while values are added up. The
 * softmax is online: what has been added so far is rescaled when a larger score comes.
 */
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t WARPS = 4, TILE = LANES, QUERIES = 8, EACH = QUERIES / WARPS;

/* Rows from .. from+TILE of one third of qkv into shared memory, zeros beyond len. */
template <typename T>
static __device__ void stage(float *to, uint32_t to_stride, const T *from, size_t stride,
                             uint32_t rows, uint32_t len, uint32_t dim)
{
    for (uint32_t i = threadIdx.x; i < rows * dim; i += blockDim.x) {
        uint32_t row = i / dim, d = i % dim;

        to[row * to_stride + d] = row < len ? value(from[row * stride + d]) : 0;
    }
}

template <typename T>
static __global__ void attention_rows(T *y, const T *qkv, const uint32_t *offsets, uint32_t C,
                                      uint32_t H, float scale)
{
    const uint32_t b = blockIdx.x / H, dim = C / H, first = blockIdx.y * QUERIES;
    const uint32_t start = offsets[b], len = offsets[b + 1] - start;
    const uint32_t warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const size_t stride = 3 * (size_t)C;
    float *queries = reinterpret_cast<float *>(shared_memory()), *out = queries + QUERIES * dim;
    float *keys = out + QUERIES * dim, *values = keys + TILE * (dim + 1);
    float *p = values + TILE * dim + warp * TILE;
    float most[EACH], total[EACH];

    if (first >= len)
        return;
    qkv += start * stride + blockIdx.x % H * dim;
    stage(queries, dim, qkv + first * stride, stride, QUERIES, len - first, dim);
    for (uint32_t i = threadIdx.x; i < QUERIES * dim; i += blockDim.x)
        out[i] = 0;
    for (uint32_t e = 0; e < EACH; e++) {
        most[e] = -INFINITY;
        total[e] = 0;
    }
    for (uint32_t from = 0; from < len; from += TILE) {
        const uint32_t rows = len - from < TILE ? len - from : TILE;

        __syncthreads();
        stage(keys, dim + 1, qkv + from * stride + C, stride, TILE, rows, dim);
        stage(values, dim, qkv + from * stride + 2 * (size_t)C, stride, TILE, rows, dim);
        __syncthreads();
        for (uint32_t e = 0; e < EACH; e++) {
            const float *q = queries + (warp + e * WARPS) * dim;
            float *sum = out + (warp + e * WARPS) * dim, score = 0, larger, factor;

            for (uint32_t d = 0; d < dim; d++)
                score += q[d] * keys[lane * (dim + 1) + d];
            score = lane < rows ? score * scale : -INFINITY;
            larger = fmaxf(most[e], warp_max(score));
            factor = expf(most[e] - larger);
            most[e] = larger;
            p[lane] = expf(score - larger);
            total[e] = total[e] * factor + warp_sum(p[lane]);
            __syncwarp();
            for (uint32_t d = lane; d < dim; d += LANES) {
                float add = 0;

                for (uint32_t j = 0; j < rows; j++)
                    add += p[j] * values[j * dim + d];
                sum[d] = sum[d] * factor + add;
            }
            __syncwarp();
        }
    }
    for (uint32_t e = 0; e < EACH; e++) {
        const uint32_t query = warp + e * WARPS;

        for (uint32_t d = lane; d < dim && first + query < len; d += LANES)
            put(y + (size_t)(start + first + query) * C + blockIdx.x % H * dim + d,
                out[query * dim + d] / total[e]);
    }
}

void cuda_attention(struct kctx *k, struct kview y, struct kview qkv, const struct kbatch *batch,
                    uint32_t C, uint32_t H)
{
    const uint32_t *on_device = cuda_offsets(k, batch->offsets, batch->seqs);
    const uint32_t dim = C / H, B = batch->seqs, longest = batch->longest;
    const dim3 grid(B * H, (longest + QUERIES - 1) / QUERIES);
    const size_t shared_bytes =
        (2 * QUERIES * dim + TILE * (2 * dim + 1) + WARPS * TILE) * sizeof(float);
    const float scale = 1 / sqrtf((float)dim);

    if (on_device == NULL)
        return;
    if (y.dtype == K_BF16 && (dim == 32 || dim == 64) && aligned(y.data) && aligned(qkv.data))
        cuda_attention_mma(k, y, qkv, on_device, longest, B, C, H);
    else if (y.dtype == K_BF16)
        launch(k, grid, WARPS * LANES, shared_bytes, attention_rows<struct bf16>, y.data, qkv.data,
               on_device, C, H, scale);
    else
        launch(k, grid, WARPS * LANES, shared_bytes, attention_rows<float>, y.data, qkv.data,
               on_device, C, H, scale);
}
