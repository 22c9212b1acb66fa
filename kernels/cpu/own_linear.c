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

int own_mat_load(const float *w, uint32_t M, uint32_t K, enum kdtype dtype,
                 struct own_mat **ret_mat)
{
    struct own_mat *mat = calloc(1, sizeof *mat);
    uint32_t panels = (M + SIMD_PANEL - 1) / SIMD_PANEL;
    size_t bytes = (size_t)panels * K * SIMD_PANEL * sizeof(float);
    const struct simd_table *simd = simd_pick();

    if (mat == NULL)
        return -ENOMEM;
    *mat = (struct own_mat){M, K, panels, dtype, aligned_alloc(64, bytes)};
    if (mat->values == NULL) {
        free(mat);
        return -ENOMEM;
    }
    memset(mat->values, 0, bytes);
    for (uint32_t m = 0; m < M; m++)
        for (uint32_t k = 0; k < K; k++) {
            size_t panel = (size_t)(m / SIMD_PANEL) * K + k;
            float *to = &mat->values[panel * SIMD_PANEL + m % SIMD_PANEL];
            uint16_t rounded;

            *to = w[(size_t)m * K + k];
            if (dtype == K_BF16) {
                simd->to_bf16(&rounded, to, 1);
                simd->from_bf16(to, &rounded, 1);
            }
        }
    *ret_mat = mat;
    return 0;
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
