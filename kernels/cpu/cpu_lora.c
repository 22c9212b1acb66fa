/* cpu_lora.c -- low-rank adapters: W + scale B A, and its gradients. See cpu_loss.h. */
#include <string.h>

#include "kernels/cpu/cpu_ctx.h"
#include "kernels/cpu/cpu_loss.h"

enum { SLICE_COLUMNS = 64 };

void cpu_train_lora(struct kctx *k, float *y, const float *w, const float *a, const float *b,
                    float scale, uint32_t M, uint32_t K, uint32_t r)
{
    int threads = cpu_team(k, (size_t)M * K);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t m = 0; m < M; m++) {
        float *row = y + (size_t)m * K;

        memcpy(row, w + (size_t)m * K, K * sizeof *row);
        for (uint32_t j = 0; j < r; j++)
            cpu_axpy(row, scale * b[(size_t)m * r + j], a + (size_t)j * K, K);
    }
}

/* Of db a row is one thread's, of da a slice of columns, row after row of dw. */
void cpu_train_lora_back(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                         const float *b, float scale, uint32_t M, uint32_t K, uint32_t r)
{
    int threads = cpu_team(k, (size_t)M * K);

#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t m = 0; m < M; m++)
        for (uint32_t j = 0; j < r; j++)
            db[(size_t)m * r + j] +=
                (float)(scale * cpu_dot(dw + (size_t)m * K, a + (size_t)j * K, K));
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t c = 0; c < K; c += SLICE_COLUMNS) {
        uint32_t len = K - c < SLICE_COLUMNS ? K - c : SLICE_COLUMNS;

        for (uint32_t m = 0; m < M; m++)
            for (uint32_t j = 0; j < r; j++)
                cpu_axpy(da + (size_t)j * K + c, scale * b[(size_t)m * r + j],
                         dw + (size_t)m * K + c, len);
    }
}
