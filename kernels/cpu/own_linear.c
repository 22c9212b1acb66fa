/* own_linear.c -- see own_linear.h. Weights lie in panels of SIMD_PANEL columns: panel p is
 * (K,SIMD_PANEL), so that one step of K is one load. Rows are taken in strips that stay in the
 * second cache while every panel passes over them once.
 */
#include "kernels/cpu/own_linear.h"

#include <errno.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/simd.h"

enum { STRIP_ROWS = 64, TEAM_PRODUCTS_MIN = 1 << 20 }; /* under it a team's wake-up costs more */

struct own_mat {
    uint32_t M, K, panels;
    enum kdtype dtype;
    float *values; /* (panels,K,SIMD_PANEL), zero beyond M */
};

int own_mat_open(uint32_t M, uint32_t K, enum kdtype dtype, struct own_mat **ret_mat)
{
    struct own_mat *mat = calloc(1, sizeof *mat);
    uint32_t panels = (M + SIMD_PANEL - 1) / SIMD_PANEL;
    size_t bytes = (size_t)panels * K * SIMD_PANEL * sizeof(float);

    if (mat == NULL)
        return -ENOMEM;
    *mat = (struct own_mat){M, K, panels, dtype, aligned_alloc(64, bytes)};
    if (mat->values == NULL) {
        free(mat);
        return -ENOMEM;
    }
    memset(mat->values, 0, bytes);
    *ret_mat = mat;
    return 0;
}

void own_mat_set(struct own_mat *mat, const float *w, uint32_t row_step, uint32_t column_step)
{
    const struct simd_table *simd = simd_pick();

    for (uint32_t m = 0; m < mat->M; m++)
        for (uint32_t k = 0; k < mat->K; k++) {
            size_t panel = (size_t)(m / SIMD_PANEL) * mat->K + k;
            float *to = &mat->values[panel * SIMD_PANEL + m % SIMD_PANEL];
            uint16_t rounded;

            *to = w[(size_t)m * row_step + (size_t)k * column_step];
            if (mat->dtype == K_BF16) {
                simd->to_bf16(&rounded, to, 1);
                simd->from_bf16(to, &rounded, 1);
            }
        }
}

int own_mat_load(const float *w, uint32_t M, uint32_t K, enum kdtype dtype,
                 struct own_mat **ret_mat)
{
    int rc = own_mat_open(M, K, dtype, ret_mat);

    if (rc == 0)
        own_mat_set(*ret_mat, w, K, 1);
    return rc;
}

void own_mat_free(struct own_mat *mat)
{
    if (mat == NULL)
        return;
    free(mat->values);
    free(mat);
}

/* One panel over a strip of rows: y points at the strip's first row. */
static void panel_run(const struct simd_table *simd, void *y, const float *x,
                      const struct own_mat *w, const float *bias, uint32_t panel, uint32_t rows)
{
    uint32_t from = panel * SIMD_PANEL, len = w->M - from < SIMD_PANEL ? w->M - from : SIMD_PANEL;
    float sums[STRIP_ROWS * SIMD_PANEL];

    simd->linear_panel(sums, x, w->values + (size_t)panel * w->K * SIMD_PANEL, rows, w->K);
    for (uint32_t n = 0; n < rows; n++) {
        float *row = sums + n * SIMD_PANEL;
        size_t to = (size_t)n * w->M + from;

        for (uint32_t m = 0; m < len && bias != NULL; m++)
            row[m] += bias[from + m];
        if (w->dtype == K_BF16)
            simd->to_bf16((uint16_t *)y + to, row, len);
        else
            memcpy((float *)y + to, row, len * sizeof *row);
    }
}

int own_linear_run(void *y, const void *x, const struct own_mat *w, const float *bias, uint32_t N,
                   uint32_t threads)
{
    const struct simd_table *simd = simd_pick();
    size_t element = w->dtype == K_BF16 ? 2 : 4;
    float *strip = NULL;

    if ((size_t)(N < STRIP_ROWS ? N : STRIP_ROWS) * w->M * w->K < TEAM_PRODUCTS_MIN)
        threads = 1;
    if (w->dtype == K_BF16) {
        strip = malloc((size_t)STRIP_ROWS * w->K * sizeof *strip);
        if (strip == NULL)
            return -ENOMEM;
    }
    for (uint32_t n = 0; n < N; n += STRIP_ROWS) {
        uint32_t rows = N - n < STRIP_ROWS ? N - n : STRIP_ROWS;
        const char *from = (const char *)x + (size_t)n * w->K * element;
        char *to = (char *)y + (size_t)n * w->M * element;

        if (strip != NULL)
            simd->from_bf16(strip, (const uint16_t *)(const void *)from, (size_t)rows * w->K);
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (uint32_t p = 0; p < w->panels; p++)
            panel_run(simd, to, strip != NULL ? strip : (const float *)(const void *)from, w, bias,
                      p, rows);
    }
    free(strip);
    return 0;
}

/* x(N,K) in dtype, as fp32. */
static void widen(float *y, const void *x, enum kdtype dtype, size_t n)
{
    if (dtype == K_BF16)
        simd_pick()->from_bf16(y, x, n);
    else
        memcpy(y, x, n * sizeof *y);
}

/* dw is (M,K) = a(M,N) b(N,K) with a = dy^T as it lies in fp32 and b = x in panels: the same loop
 * as a linear map's. */
int own_linear_dw(float *dw, const void *dy, const void *x, enum kdtype dtype, uint32_t M,
                  uint32_t K, uint32_t N, uint32_t threads)
{
    const struct simd_table *simd = simd_pick();
    uint32_t panels = (K + SIMD_PANEL - 1) / SIMD_PANEL, widest = M > K ? M : K;
    size_t a_len = (size_t)M * N, b_len = (size_t)panels * N * SIMD_PANEL;
    float *a = malloc((a_len + b_len + widest) * sizeof *a), *b = a + a_len, *row = b + b_len;

    if (a == NULL)
        return -ENOMEM;
    for (uint32_t n = 0; n < N; n++) {
        size_t element = dtype == K_BF16 ? 2 : 4;

        widen(row, (const char *)dy + (size_t)n * M * element, dtype, M);
        for (uint32_t m = 0; m < M; m++)
            a[(size_t)m * N + n] = row[m];
        widen(row, (const char *)x + (size_t)n * K * element, dtype, K);
        for (uint32_t c = 0; c < panels * SIMD_PANEL; c++)
            b[((size_t)(c / SIMD_PANEL) * N + n) * SIMD_PANEL + c % SIMD_PANEL] =
                c < K ? row[c] : 0;
    }
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (uint32_t p = 0; p < panels; p++)
        for (uint32_t m = 0; m < M; m += STRIP_ROWS) {
            uint32_t rows = M - m < STRIP_ROWS ? M - m : STRIP_ROWS, from = p * SIMD_PANEL;
            float sums[STRIP_ROWS * SIMD_PANEL];

            simd->linear_panel(sums, a + (size_t)m * N, b + (size_t)p * N * SIMD_PANEL, rows, N);
            for (uint32_t i = 0; i < rows; i++)
                for (uint32_t c = from; c < from + SIMD_PANEL && c < K; c++)
                    dw[(size_t)(m + i) * K + c] += sums[i * SIMD_PANEL + c - from];
        }
    free(a);
    return 0;
}
