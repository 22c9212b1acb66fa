/* cuda_columns.h -- sums over the rows of a batch, for the gradients of biases, gamma and beta.
 *
 * Two sums a column at once. Rows are cut into chunks; a block adds up one chunk of 32 columns,
 * and a second kernel the chunks, both in an order that only the number of rows decides.
 */
#ifndef LEARND_CUDA_COLUMNS_H
#define LEARND_CUDA_COLUMNS_H

#include "kernels/cuda/cuda_ctx.h"

static constexpr uint32_t COLUMN_ROWS = 8, COLUMN_CHUNK = 128, COLUMN_THREADS = LANES * COLUMN_ROWS;

static inline uint32_t column_chunks(uint32_t N)
{
    return (N + COLUMN_CHUNK - 1) / COLUMN_CHUNK;
}

/* Scratch of column_sums, in bytes. */
static inline size_t column_bytes(uint32_t N, uint32_t C)
{
    return (size_t)column_chunks(N) * C * sizeof(float2);
}

/* The sums of the block's 8 rows of threads, column by column; in the first row. */
static __device__ inline float2 add_rows(float2 sum)
{
    float2 *parts = reinterpret_cast<float2 *>(shared_memory());

    parts[threadIdx.x] = sum;
    __syncthreads();
    for (uint32_t i = 1; i < COLUMN_ROWS && threadIdx.x < LANES; i++) {
        sum.x += parts[i * LANES + threadIdx.x].x;
        sum.y += parts[i * LANES + threadIdx.x].y;
    }
    return sum;
}

/* parts(chunks,C): chunk blockIdx.y of columns 32 blockIdx.x .. +32. */
template <typename F>
static __global__ void column_parts(float2 *parts, F terms, uint32_t N, uint32_t C)
{
    const uint32_t c = blockIdx.x * LANES + threadIdx.x % LANES;
    const uint32_t from = blockIdx.y * COLUMN_CHUNK;
    const uint32_t to = N - from < COLUMN_CHUNK ? N : from + COLUMN_CHUNK;
    float2 sum = make_float2(0, 0);

    for (uint32_t n = from + threadIdx.x / LANES; n < to && c < C; n += COLUMN_ROWS) {
        float2 term = terms(n, c);

        sum.x += term.x;
        sum.y += term.y;
    }
    sum = add_rows(sum);
    if (threadIdx.x < LANES && c < C)
        parts[(size_t)blockIdx.y * C + c] = sum;
}

/* first and second += ; either may be NULL. */
static __global__ void column_add(float *first, float *second, const float2 *parts, uint32_t chunks,
                                  uint32_t C)
{
    const uint32_t c = blockIdx.x * LANES + threadIdx.x % LANES;
    float2 sum = make_float2(0, 0);

    for (uint32_t i = threadIdx.x / LANES; i < chunks && c < C; i += COLUMN_ROWS) {
        sum.x += parts[(size_t)i * C + c].x;
        sum.y += parts[(size_t)i * C + c].y;
    }
    sum = add_rows(sum);
    if (threadIdx.x < LANES && c < C) {
        if (first != NULL)
            first[c] += sum.x;
        if (second != NULL)
            second[c] += sum.y;
    }
}

/* first(C) and second(C) += the sums over n < N of terms(n, c). parts: column_bytes(N,C). */
template <typename F>
static void column_sums(struct kctx *k, float *first, float *second, void *parts, F terms,
                        uint32_t N, uint32_t C)
{
    const uint32_t across = (C + LANES - 1) / LANES, chunks = column_chunks(N);
    const size_t shared_bytes = COLUMN_THREADS * sizeof(float2);

    launch(k, dim3(across, chunks), COLUMN_THREADS, shared_bytes, column_parts<F>, parts, terms, N,
           C);
    launch(k, across, COLUMN_THREADS, shared_bytes, column_add, first, second, parts, chunks, C);
}

#endif
