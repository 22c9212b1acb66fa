/* cuda_tables.cu -- the gradients of the embedding tables, and of biases: sums over tokens whose
 * terms lie anywhere. Without atomics, so that the order of the additions is that of the tokens.
 */
#include "kernels/cuda/cuda_columns.h"
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t THREADS = 128;

/* A word's row belongs to the block of its first token; the others leave at once. A block goes over
 * all ids, which are few and in the cache (4,096 tokens: 16 KB), and adds the rows of those that
 * are its own. */
static __global__ void word_rows(float *dword, const float *ds, const int32_t *ids, uint32_t T,
                                 uint32_t C)
{
    uint32_t *mine = reinterpret_cast<uint32_t *>(shared_memory()); /* (THREADS) */
    const uint32_t first = blockIdx.x;
    const int32_t id = ids[first];
    bool earlier = false;

    for (uint32_t t = threadIdx.x; t < first; t += THREADS)
        earlier = earlier || ids[t] == id;
    if (__syncthreads_or(earlier))
        return;
    for (uint32_t from = first; from < T; from += THREADS) {
        uint32_t t = from + threadIdx.x;
        bool same = t < T && ids[t] == id;

        mine[threadIdx.x] = same;
        if (!__syncthreads_or(same))
            continue;
        for (uint32_t c = threadIdx.x; c < C; c += THREADS) {
            float sum = dword[(size_t)id * C + c];

            for (uint32_t i = 0; i < THREADS; i++)
                if (mine[i])
                    sum += ds[(size_t)(from + i) * C + c];
            dword[(size_t)id * C + c] = sum;
        }
        __syncthreads();
    }
}

/* One block a position: the texts that are longer, in their order. */
static __global__ void position_rows(float *dposition, const float *ds, const uint32_t *offsets,
                                     uint32_t B, uint32_t C)
{
    const uint32_t position = blockIdx.x;

    for (uint32_t c = threadIdx.x; c < C; c += THREADS) {
        float sum = dposition[(size_t)position * C + c];

        for (uint32_t b = 0; b < B; b++)
            if (position < offsets[b + 1] - offsets[b])
                sum += ds[(size_t)(offsets[b] + position) * C + c];
        dposition[(size_t)position * C + c] = sum;
    }
}

struct segment_terms {
    const float *ds;
    const uint8_t *types;
    uint32_t type, C;

    __device__ float2 operator()(uint32_t t, uint32_t c) const
    {
        bool mine = types == NULL || types[t] == type;

        return make_float2(mine ? ds[(size_t)t * C + c] : 0, 0);
    }
};

void cuda_tables_back(struct kctx *k, float *dword, float *dposition, float *dsegment,
                      const float *ds, const int32_t *ids, const uint8_t *types, uint32_t types_max,
                      const uint32_t *offsets, uint32_t longest, uint32_t B, uint32_t T, uint32_t C,
                      void *parts)
{
    launch(k, T, THREADS, THREADS * sizeof(uint32_t), word_rows, dword, ds, ids, T, C);
    launch(k, longest, THREADS, 0, position_rows, dposition, ds, offsets, B, C);
    for (uint32_t type = 0; type <= types_max; type++) {
        struct segment_terms terms = {ds, types, type, C};

        column_sums(k, dsegment + (size_t)type * C, static_cast<float *>(NULL), parts, terms, T, C);
    }
}

template <typename T> struct bias_terms {
    const T *dy;
    uint32_t M;

    __device__ float2 operator()(uint32_t n, uint32_t m) const
    {
        return make_float2(value(dy[(size_t)n * M + m]), 0);
    }
};

void cuda_bias_back(struct kctx *k, float *db, struct kview dy, uint32_t N, uint32_t M, void *parts)
{
    float *none = NULL;

    if (dy.dtype == K_BF16) {
        struct bias_terms<struct bf16> terms = {
            static_cast<struct bf16 *>(dy.data), M
        };

        column_sums(k, db, none, parts, terms, N, M);
    } else {
        struct bias_terms<float> terms = {
            static_cast<float *>(dy.data), M
        };

        column_sums(k, db, none, parts, terms, N, M);
    }
}
