/* cuda_head.cu -- the head's forward. A value is one thread's or one warp's, first to last. */
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t THREADS = 128, WARPS = THREADS / LANES;

static __global__ void features(float *y, const float *x, const float *w, float scale, uint32_t K,
                                uint32_t M)
{
    const uint32_t m = blockIdx.y * THREADS + threadIdx.x;
    float sum = 0;

    if (m >= M)
        return;
    x += (size_t)blockIdx.x * K;
    for (uint32_t k = 0; k < K; k++)
        sum += x[k] * w[(size_t)k * M + m];
    y[(size_t)blockIdx.x * M + m] = sum > 0 || sum != sum ? sum * scale : 0;
}

void cuda_head_features(struct kctx *k, float *y, const float *x, const float *w, float scale,
                        uint32_t N, uint32_t K, uint32_t M)
{
    launch(k, dim3(N, (M + THREADS - 1) / THREADS), THREADS, 0, features, y, x, w, scale, K, M);
}

static __device__ float value(uint16_t half)
{
    return half_value(half);
}

/* y(N,L) = x(N,K) w(L,K)^T: a warp for each. */
template <typename W>
static __global__ void dots(float *y, const float *x, const W *w, uint32_t K, uint32_t L)
{
    const uint32_t l = blockIdx.y * WARPS + threadIdx.x / LANES;
    float sum = 0;

    if (l >= L)
        return;
    x += (size_t)blockIdx.x * K;
    w += (size_t)l * K;
    for (uint32_t k = threadIdx.x % LANES; k < K; k += LANES)
        sum += x[k] * value(w[k]);
    sum = warp_sum(sum);
    if (threadIdx.x % LANES == 0)
        y[(size_t)blockIdx.x * L + l] = sum;
}

void cuda_head_dense(struct kctx *k, float *y, const float *x, const float *w, uint32_t N,
                     uint32_t K, uint32_t L)
{
    launch(k, dim3(N, (L + WARPS - 1) / WARPS), THREADS, 0, dots<float>, y, x, w, K, L);
}

void cuda_head_similarity(struct kctx *k, float *y, const float *x, const uint16_t *rows,
                          uint32_t N, uint32_t R, uint32_t C)
{
    launch(k, dim3(N, (R + WARPS - 1) / WARPS), THREADS, 0, dots<uint16_t>, y, x, rows, C, R);
}
