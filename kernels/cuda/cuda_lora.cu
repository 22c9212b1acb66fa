/* cuda_lora.cu -- low-rank adapters: W + scale B A, and its gradients. */
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/cuda_thin.h"

static constexpr uint32_t THREADS = 256;

static __global__ void merge(float *y, const float *w, const float *a, const float *b, float scale,
                             uint32_t K, uint32_t r)
{
    const uint32_t m = blockIdx.x, k = blockIdx.y * THREADS + threadIdx.x;
    float sum;

    if (k >= K)
        return;
    sum = w[(size_t)m * K + k];
    for (uint32_t j = 0; j < r; j++)
        sum += scale * b[(size_t)m * r + j] * a[(size_t)j * K + k];
    y[(size_t)m * K + k] = sum;
}

void cuda_lora(struct kctx *k, float *y, const float *w, const float *a, const float *b,
               float scale, uint32_t M, uint32_t K, uint32_t r)
{
    launch(k, dim3(M, (K + THREADS - 1) / THREADS), THREADS, 0, merge, y, w, a, b, scale, K, r);
}

/* to(.,columns) += scale sum */
struct scaled {
    float *to;
    float scale;
    uint32_t columns;

    __device__ void operator()(uint32_t row, uint32_t column, float sum) const
    {
        to[(size_t)row * columns + column] += scale * sum;
    }
};

struct b_of {
    const float *b;
    uint32_t r;

    __device__ float operator()(uint32_t m, uint32_t j) const
    {
        return b[(size_t)m * r + j];
    }
};

size_t cuda_lora_back_bytes(uint32_t M, uint32_t K, uint32_t r)
{
    return outer_bytes(M, r, K);
}

void cuda_lora_back(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                    const float *b, float scale, uint32_t M, uint32_t K, uint32_t r)
{
    const size_t bytes = cuda_lora_back_bytes(M, K, r);
    void *parts = bytes > 0 ? cuda_scratch(k, bytes) : NULL;
    struct scaled to_a = {da, scale, K}, to_b = {db, scale, r};
    struct b_of factor = {b, r};

    if (bytes > 0 && parts == NULL)
        return;
    launch_dots(k, to_b, dw, a, M, r, K);
    launch_outer(k, parts, factor, to_a, dw, M, r, K);
}
