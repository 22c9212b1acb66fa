/* cuda_thin.h -- products with one thin side, which are not worth a matrix multiplication: a few
 * texts with the label vectors, a rank of 8 with a matrix. In fp32, each sum in an order that only
 * its own length decides, so that a text's numbers do not depend on where it stands.
 *
 * The thin side is taken THIN rows at a time: what is read of the other side is used for all of
 * them.
 */
#ifndef LEARND_CUDA_THIN_H
#define LEARND_CUDA_THIN_H

#include "kernels/cuda/cuda_ctx.h"

static constexpr uint32_t THIN = 8, THIN_WARPS = 8, THIN_THREADS = LANES * THIN_WARPS;
static constexpr uint32_t OUTER_CHUNK = 256; /* rows that one block of an outer sum adds up */

static inline uint32_t thin_tiles(uint32_t J)
{
    return (J + THIN - 1) / THIN;
}

/* ---- dots -------------------------------------------------------------------------------------
 */

/* finish(n, j, u(n,.) . v(j,.)) for rows of u(N,K) and of the thin v(J,K): a warp has a row of u
 * and THIN rows of v. */
template <typename F>
static __global__ void thin_dots(F finish, const float *u, const float *v, uint32_t N, uint32_t J,
                                 uint32_t K)
{
    const uint32_t n = blockIdx.x * THIN_WARPS + threadIdx.x / LANES, lane = threadIdx.x % LANES;
    const uint32_t first = blockIdx.y * THIN;
    float sums[THIN] = {};

    if (n >= N)
        return;
    for (uint32_t k = lane; k < K; k += LANES) {
        float mine = u[(size_t)n * K + k];

        for (uint32_t i = 0; i < THIN; i++)
            if (first + i < J)
                sums[i] += mine * v[(size_t)(first + i) * K + k];
    }
    for (uint32_t i = 0; i < THIN && first + i < J; i++) {
        double sum = warp_sum((double)sums[i]);

        if (lane == 0)
            finish(n, first + i, (float)sum);
    }
}

template <typename F>
static void launch_dots(struct kctx *k, F finish, const float *u, const float *v, uint32_t N,
                        uint32_t J, uint32_t K)
{
    launch(k, dim3((N + THIN_WARPS - 1) / THIN_WARPS, thin_tiles(J)), THIN_THREADS, 0, thin_dots<F>,
           finish, u, v, N, J, K);
}

/* ---- sums of outer products -------------------------------------------------------------------
 */

static inline uint32_t outer_chunks(uint32_t N)
{
    return (N + OUTER_CHUNK - 1) / OUTER_CHUNK;
}

/* Scratch of launch_outer, in bytes. */
static inline size_t outer_bytes(uint32_t N, uint32_t J, uint32_t K)
{
    return outer_chunks(N) > 1 ? (size_t)outer_chunks(N) * J * K * sizeof(float) : 0;
}

/* The sums over one chunk of rows n of factor(n, j) v(n, k), for THIN j and 32 columns k: each warp
 * has every 8th row, and the first adds up the warps. To parts(chunks,J,K), or where that is NULL,
 * and there is one chunk, finish(j, k, sum). */
template <typename F, typename E>
static __global__ void thin_outer(float *parts, F factor, E finish, const float *v, uint32_t N,
                                  uint32_t J, uint32_t K)
{
    float *sums = reinterpret_cast<float *>(shared_memory()); /* (THIN_WARPS,THIN,LANES) */
    const uint32_t across = (K + LANES - 1) / LANES, warp = threadIdx.x / LANES;
    const uint32_t lane = threadIdx.x % LANES, k = blockIdx.x % across * LANES + lane;
    const uint32_t first = blockIdx.x / across * THIN, from = blockIdx.y * OUTER_CHUNK;
    const uint32_t to = N - from < OUTER_CHUNK ? N : from + OUTER_CHUNK;
    float mine[THIN] = {};

    for (uint32_t n = from + warp; n < to && k < K; n += THIN_WARPS) {
        float x = v[(size_t)n * K + k];

        for (uint32_t i = 0; i < THIN; i++)
            if (first + i < J)
                mine[i] += factor(n, first + i) * x;
    }
    for (uint32_t i = 0; i < THIN; i++)
        sums[(warp * THIN + i) * LANES + lane] = mine[i];
    __syncthreads();
    for (uint32_t i = warp; i < THIN && first + i < J && k < K; i += THIN_WARPS) {
        float sum = 0;

        for (uint32_t w = 0; w < THIN_WARPS; w++)
            sum += sums[(w * THIN + i) * LANES + lane];
        if (parts != NULL)
            parts[((size_t)blockIdx.y * J + first + i) * K + k] = sum;
        else
            finish(first + i, k, sum);
    }
}

/* finish(j, k, sum of the chunks). */
template <typename E>
static __global__ void thin_outer_add(E finish, const float *parts, uint32_t chunks, uint32_t J,
                                      uint32_t K)
{
    const uint32_t k = blockIdx.y * THIN_THREADS + threadIdx.x, j = blockIdx.x;
    float sum = 0;

    if (k >= K)
        return;
    for (uint32_t i = 0; i < chunks; i++)
        sum += parts[((size_t)i * J + j) * K + k];
    finish(j, k, sum);
}

/* finish(j, k, sum over n < N of factor(n, j) v(n, k)) for j < J and k < K. parts:
 * outer_bytes(N,J,K) of scratch. */
template <typename F, typename E>
static void launch_outer(struct kctx *k, void *parts, F factor, E finish, const float *v,
                         uint32_t N, uint32_t J, uint32_t K)
{
    const uint32_t across = (K + LANES - 1) / LANES, chunks = outer_chunks(N);

    launch(k, dim3(across * thin_tiles(J), chunks), THIN_THREADS,
           THIN_WARPS * THIN * LANES * sizeof(float), thin_outer<F, E>, chunks > 1 ? parts : NULL,
           factor, finish, v, N, J, K);
    if (chunks > 1)
        launch(k, dim3(J, (K + THIN_THREADS - 1) / THIN_THREADS), THIN_THREADS, 0,
               thin_outer_add<E>, finish, parts, chunks, J, K);
}

#endif
