/* shim_blas.c -- cuda_blas.h in plain loops: cuBLASLt cannot run on a host. Tests only. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/cuda_blas.h"
#include "tests/cuda/shim.h"

struct cuda_blas {
    struct shim_stream *stream;
};

/* A product as it is enqueued. */
struct product {
    enum kdtype dtype;
    void *out;
    const void *a, *b, *bias;
    uint32_t N, M, K;
};

int cuda_blas_check(char *why, size_t why_bytes)
{
    (void)why;
    (void)why_bytes;
    return 0;
}

size_t cuda_blas_bytes(void)
{
    return 0;
}

int cuda_blas_open(const struct backend *be, enum kroom room, void *stream,
                   struct cuda_blas **ret_blas)
{
    struct cuda_blas *blas = calloc(1, sizeof *blas);

    (void)be;
    (void)room;
    if (blas == NULL)
        return -ENOMEM;
    blas->stream = stream;
    *ret_blas = blas;
    return 0;
}

void cuda_blas_close(struct cuda_blas *blas)
{
    free(blas);
}

int cuda_blas_plans(const struct backend *be, enum kdtype dtype, uint32_t M, uint32_t K,
                    struct cuda_plans **ret_plans)
{
    (void)be;
    (void)dtype;
    (void)M;
    (void)K;
    *ret_plans = NULL;
    return 0;
}

uint32_t cuda_blas_rows(uint32_t N)
{
    return (N + 15) / 16 * 16;
}

static float value(const void *x, enum kdtype dtype, size_t i)
{
    uint32_t bits;
    float f;

    if (dtype == K_F32)
        return ((const float *)x)[i];
    bits = (uint32_t)((const uint16_t *)x)[i] << 16;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void put(void *y, enum kdtype dtype, size_t i, float f)
{
    uint32_t bits;

    if (dtype == K_F32) {
        ((float *)y)[i] = f;
        return;
    }
    memcpy(&bits, &f, sizeof bits);
    ((uint16_t *)y)[i] = (uint16_t)(isnan(f) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* n values as fp32. */
static float *values(const void *x, enum kdtype dtype, size_t n)
{
    float *copy = malloc((n + 1) * sizeof *copy);

    if (copy == NULL)
        abort();
    for (size_t i = 0; i < n; i++)
        copy[i] = value(x, dtype, i);
    return copy;
}

/* y(N,M) = a(N,K) b(K,M), a row of y at once; elements of b stand b_k and b_m apart. */
static void product(float *y, const float *a, const float *b, size_t b_k, size_t b_m, uint32_t N,
                    uint32_t M, uint32_t K)
{
    float *wide = malloc(((size_t)K * M + 1) * sizeof *wide); /* b, row by row */

    if (wide == NULL)
        abort();
    for (uint32_t k = 0; k < K; k++)
        for (uint32_t m = 0; m < M; m++)
            wide[(size_t)k * M + m] = b[k * b_k + m * b_m];
    memset(y, 0, (size_t)N * M * sizeof *y);
    for (uint32_t n = 0; n < N; n++)
        for (uint32_t k = 0; k < K; k++)
            for (uint32_t m = 0; m < M; m++)
                y[(size_t)n * M + m] += a[(size_t)n * K + k] * wide[(size_t)k * M + m];
    free(wide);
}

static void run_y(void *argument)
{
    const struct product *p = argument;
    const uint32_t N = p->N, M = p->M, K = p->K;
    float *a = values(p->a, p->dtype, (size_t)N * K), *b = values(p->b, p->dtype, (size_t)M * K);
    float *sums = calloc((size_t)N * M + 1, sizeof *sums);

    if (sums == NULL)
        abort();
    product(sums, a, b, 1, K, N, M, K);
    for (size_t i = 0; i < (size_t)N * M; i++)
        put(p->out, p->dtype, i,
            p->bias != NULL ? sums[i] + value(p->bias, p->dtype, i % M) : sums[i]);
    free(a);
    free(b);
    free(sums);
}

static void run_dx(void *argument)
{
    const struct product *p = argument;
    const uint32_t N = p->N, M = p->M, K = p->K;
    float *a = values(p->a, p->dtype, (size_t)N * M), *b = values(p->b, p->dtype, (size_t)M * K);
    float *sums = calloc((size_t)N * K + 1, sizeof *sums);

    if (sums == NULL)
        abort();
    product(sums, a, b, K, 1, N, K, M);
    for (size_t i = 0; i < (size_t)N * K; i++)
        put(p->out, p->dtype, i, sums[i]);
    free(a);
    free(b);
    free(sums);
}

static void run_dw(void *argument)
{
    const struct product *p = argument;
    const uint32_t N = p->N, M = p->M, K = p->K;
    float *a = values(p->a, p->dtype, (size_t)N * M), *b = values(p->b, p->dtype, (size_t)N * K);
    float *dw = p->out;

    for (uint32_t m = 0; m < M; m++) {
        float *row = calloc(K, sizeof *row);

        if (row == NULL)
            abort();
        for (uint32_t n = 0; n < N; n++)
            for (uint32_t k = 0; k < K; k++)
                row[k] += a[(size_t)n * M + m] * b[(size_t)n * K + k];
        for (uint32_t k = 0; k < K; k++)
            dw[(size_t)m * K + k] += row[k];
        free(row);
    }
    free(a);
    free(b);
}

static int enqueue(struct cuda_blas *blas, void (*run)(void *argument), struct product p)
{
    return shim_enqueue(blas->stream, run, &p, sizeof p) == 0 ? 0 : -EIO;
}

int cuda_blas_y(struct cuda_blas *blas, const struct cuda_plans *plans, enum kdtype dtype, void *y,
                const void *x, const void *w, const void *bias, uint32_t N, uint32_t M, uint32_t K)
{
    (void)plans;
    return enqueue(blas, run_y, (struct product){dtype, y, x, w, bias, N, M, K});
}

int cuda_blas_dx(struct cuda_blas *blas, enum kdtype dtype, void *dx, const void *dy, const void *w,
                 uint32_t N, uint32_t M, uint32_t K)
{
    return enqueue(blas, run_dx, (struct product){dtype, dx, dy, w, NULL, N, M, K});
}

int cuda_blas_dw(struct cuda_blas *blas, enum kdtype dtype, float *dw, const void *dy,
                 const void *x, uint32_t N, uint32_t M, uint32_t K)
{
    return enqueue(blas, run_dw, (struct product){dtype, dw, dy, x, NULL, N, M, K});
}
