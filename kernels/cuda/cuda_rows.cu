/* cuda_rows.cu -- what works on single values: bias, gelu and its slope, conversions, sums. */
#include "kernels/cuda/cuda_ops.h"

static constexpr uint32_t THREADS = 256, BLOCKS_MAX = 1 << 16;

/* Each thread takes every so manieth piece. */
static uint32_t blocks_for(size_t pieces)
{
    size_t blocks = (pieces + THREADS - 1) / THREADS;

    return (uint32_t)(blocks < BLOCKS_MAX ? blocks : BLOCKS_MAX);
}

static __device__ size_t first_piece(void)
{
    return (size_t)blockIdx.x * THREADS + threadIdx.x;
}

static __device__ size_t pieces_apart(void)
{
    return (size_t)gridDim.x * THREADS;
}

/* The exact gelu has a kernel of its own. What cuBLASLt fuses is the tanh approximation: up to
 * 4.7e-4 off, a tenth of the value at -3. It would move MiniLM's embeddings by 1 - cos = 2e-6 (bf16
 * moves them by 7e-5), so it is not accuracy that decides but the contract: one gelu, the CPU's,
 * PyTorch's and that of the backward. The price is one more pass over (N,F). */
template <typename T, uint32_t V>
static __global__ void bias_gelu(T *y, const T *x, const float *bias, size_t n, uint32_t M)
{
    for (size_t i = first_piece() * V; i < n; i += pieces_apart() * V) {
        float a[V], b[V] = {};

        load(a, x + i);
        if (bias != NULL)
            load(b, bias + i % M);
        for (uint32_t j = 0; j < V; j++)
            a[j] = gelu_of(a[j] + b[j]);
        store(y + i, a);
    }
}

void cuda_bias_gelu(struct kctx *k, struct kview y, struct kview x, const float *bias, uint32_t N,
                    uint32_t M)
{
    size_t n = (size_t)N * M;
    bool wide = M % 8 == 0 && aligned(y.data) && aligned(x.data) && aligned(bias);

    by_kind(y.dtype, wide, [&](auto how) {
        using H = decltype(how);

        launch(k, blocks_for(n / H::wide), THREADS, 0, bias_gelu<typename H::type, H::wide>, y.data,
               x.data, bias, n, M);
    });
}

template <typename T, uint32_t V>
static __global__ void gelu_back(T *dx, const T *dy, const T *x, size_t n)
{
    for (size_t i = first_piece() * V; i < n; i += pieces_apart() * V) {
        float a[V], d[V];

        load(a, x + i);
        load(d, dy + i);
        for (uint32_t j = 0; j < V; j++)
            d[j] *= gelu_slope(a[j]);
        store(dx + i, d);
    }
}

void cuda_gelu_back(struct kctx *k, struct kview dx, struct kview dy, struct kview x, uint32_t N,
                    uint32_t M)
{
    size_t n = (size_t)N * M;
    bool wide = n % 8 == 0 && aligned(dx.data) && aligned(dy.data) && aligned(x.data);

    by_kind(dx.dtype, wide, [&](auto how) {
        using H = decltype(how);

        launch(k, blocks_for(n / H::wide), THREADS, 0, gelu_back<typename H::type, H::wide>,
               dx.data, dy.data, x.data, n);
    });
}

/* y = x, or y += x. */
template <typename Y, typename X>
static __global__ void copy(Y *y, const X *x, size_t n, bool adding)
{
    for (size_t i = first_piece(); i < n; i += pieces_apart())
        put(y + i, adding ? value(y[i]) + value(x[i]) : value(x[i]));
}

static void copy_values(struct kctx *k, struct kview y, struct kview x, size_t n, bool adding)
{
    uint32_t blocks = blocks_for(n);

    if (y.dtype == K_BF16 && x.dtype == K_BF16)
        launch(k, blocks, THREADS, 0, copy<struct bf16, struct bf16>, y.data, x.data, n, adding);
    else if (y.dtype == K_BF16)
        launch(k, blocks, THREADS, 0, copy<struct bf16, float>, y.data, x.data, n, adding);
    else if (x.dtype == K_BF16)
        launch(k, blocks, THREADS, 0, copy<float, struct bf16>, y.data, x.data, n, adding);
    else
        launch(k, blocks, THREADS, 0, copy<float, float>, y.data, x.data, n, adding);
}

void cuda_convert(struct kctx *k, struct kview y, struct kview x, size_t n)
{
    copy_values(k, y, x, n, false);
}

void cuda_add(struct kctx *k, struct kview y, struct kview x, size_t n)
{
    copy_values(k, y, x, n, true);
}

/* ---- AdamW ------------------------------------------------------------------------------------
 */

static __global__ void adamw(float *w, float *m, float *v, float *grad, size_t n,
                             struct adamw_rates a)
{
    for (size_t i = first_piece(); i < n; i += pieces_apart()) {
        float g = grad[i] * a.scale;
        float first = m[i] * a.beta1 + g * (1 - a.beta1);
        float second = v[i] * a.beta2 + g * g * (1 - a.beta2);

        m[i] = first;
        v[i] = second;
        grad[i] = 0;
        w[i] = w[i] * a.decay - a.rate * first / (sqrtf(second) * a.root + a.eps);
    }
}

void cuda_adamw(struct kctx *k, float *w, float *m, float *v, float *grad, size_t n,
                const struct adamw_rates *a)
{
    launch(k, blocks_for(n), THREADS, 0, adamw, w, m, v, grad, n, *a);
}

/* ---- sums of squares --------------------------------------------------------------------------
 */

/* The grid is always the same, so that the order of the additions is. */
static constexpr uint32_t SUM_BLOCKS = 256, SUM_WARPS = THREADS / LANES;

/* Over the block, warp by warp; in thread 0. */
static __device__ double block_sum(double x)
{
    double *parts = reinterpret_cast<double *>(shared_memory());

    x = warp_sum(x);
    if (threadIdx.x % LANES == 0)
        parts[threadIdx.x / LANES] = x;
    __syncthreads();
    x = 0;
    for (uint32_t i = 0; i < SUM_WARPS && threadIdx.x == 0; i++)
        x += parts[i];
    return x;
}

static __global__ void squares(double *parts, const float *x, size_t n)
{
    double sum = 0;

    for (size_t i = first_piece(); i < n; i += pieces_apart())
        sum += (double)x[i] * x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0)
        parts[blockIdx.x] = sum;
}

static __global__ void add_up(double *total, const double *parts)
{
    double sum = block_sum(parts[threadIdx.x]);

    if (threadIdx.x == 0)
        *total = sum;
}

void cuda_sum_squares(struct kctx *k, double *total, double *parts, const float *x, size_t n)
{
    static_assert((int)SUM_BLOCKS == (int)THREADS, "one block adds up the blocks");

    launch(k, SUM_BLOCKS, THREADS, SUM_WARPS * sizeof(double), squares, parts, x, n);
    launch(k, 1, THREADS, SUM_WARPS * sizeof(double), add_up, total, parts);
}
