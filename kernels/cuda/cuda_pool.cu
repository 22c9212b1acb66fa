/* cuda_pool.cu -- from the rows of a text to one vector of unit length, and back. A block has a
 * text. */
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t THREADS = 256, WARPS = THREADS / LANES;

/* Over the block, in every thread; warp by warp. Once a kernel: the first WARPS floats of shared
 * memory are its. */
static __device__ float block_sum(float x)
{
    float *parts = reinterpret_cast<float *>(shared_memory());

    x = warp_sum(x);
    if (threadIdx.x % LANES == 0)
        parts[threadIdx.x / LANES] = x;
    __syncthreads();
    x = 0;
    for (uint32_t i = 0; i < WARPS; i++)
        x += parts[i];
    return x;
}

/* A thread has every 256th column, and reads back what it wrote. */
template <typename T>
static __global__ void pool_text(float *y, float *length, const T *x, const uint32_t *offsets,
                                 uint32_t C, bool first_only)
{
    float *row = reinterpret_cast<float *>(shared_memory()) + WARPS; /* (C) */
    const uint32_t start = offsets[blockIdx.x], all = offsets[blockIdx.x + 1] - start;
    const uint32_t len = first_only ? 1 : all;
    float squares = 0, inverse;

    if (all == 0)
        return;
    for (uint32_t c = threadIdx.x; c < C; c += THREADS) {
        float sum = 0;

        for (uint32_t t = 0; t < len; t++)
            sum += value(x[(size_t)(start + t) * C + c]);
        row[c] = sum / len;
        squares += row[c] * row[c];
    }
    squares = sqrtf(block_sum(squares));
    if (length != NULL && threadIdx.x == 0)
        length[blockIdx.x] = squares;
    inverse = 1 / squares;
    for (uint32_t c = threadIdx.x; c < C; c += THREADS)
        y[(size_t)blockIdx.x * C + c] = row[c] * inverse;
}

void cuda_pool(struct kctx *k, float *y, float *length, struct kview x, const struct kbatch *batch,
               uint32_t C, enum kpool how)
{
    const uint32_t *on_device = cuda_offsets(k, batch->offsets, batch->seqs);
    const uint32_t B = batch->seqs;
    const size_t shared_bytes = (WARPS + C) * sizeof(float);

    if (on_device == NULL)
        return;
    if (x.dtype == K_BF16)
        launch(k, B, THREADS, shared_bytes, pool_text<struct bf16>, y, length, x.data, on_device, C,
               how == K_POOL_CLS);
    else
        launch(k, B, THREADS, shared_bytes, pool_text<float>, y, length, x.data, on_device, C,
               how == K_POOL_CLS);
}

/* d(pooled) = (dy - y (y . dy)) / length, the same for each of the rows that were averaged. */
template <typename T>
static __global__ void pool_text_back(T *dx, const float *dy, const float *y, const float *length,
                                      const uint32_t *offsets, uint32_t C, bool first_only)
{
    const uint32_t b = blockIdx.x, start = offsets[b], len = offsets[b + 1] - start;
    const float share = 1 / (length[b] * (first_only ? 1 : (float)len));
    float along = 0;

    dy += (size_t)b * C;
    y += (size_t)b * C;
    for (uint32_t c = threadIdx.x; c < C; c += THREADS)
        along += dy[c] * y[c];
    along = block_sum(along);
    for (uint32_t c = threadIdx.x; c < C; c += THREADS) {
        float d = (dy[c] - y[c] * along) * share;

        for (uint32_t t = 0; t < len; t++)
            put(dx + (size_t)(start + t) * C + c, first_only && t > 0 ? 0 : d);
    }
}

void cuda_pool_back(struct kctx *k, struct kview dx, const float *dy, const float *y,
                    const float *length, const uint32_t *offsets, uint32_t B, uint32_t C,
                    enum kpool how)
{
    const uint32_t *on_device = cuda_offsets(k, offsets, B);

    if (on_device == NULL)
        return;
    if (dx.dtype == K_BF16)
        launch(k, B, THREADS, WARPS * sizeof(float), pool_text_back<struct bf16>, dx.data, dy, y,
               length, on_device, C, how == K_POOL_CLS);
    else
        launch(k, B, THREADS, WARPS * sizeof(float), pool_text_back<float>, dx.data, dy, y, length,
               on_device, C, how == K_POOL_CLS);
}
