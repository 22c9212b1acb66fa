/* cpu_head.c -- the head's forward on the cpu. Each row is computed alone, in a fixed order of
 * additions, so that its bits do not depend on the batch. The loops themselves are in simd.c,
 * compiled for three machines.
 */
#include "kernels/cpu/cpu_head.h"

#include "kernels/cpu/simd.h"

void cpu_head_features(struct kctx *k, float *y, const float *x, const float *w, float scale,
                       uint32_t N, uint32_t K, uint32_t M)
{
    (void)k;
    for (uint32_t n = 0; n < N; n++)
        simd_pick()->features_row(y + (size_t)n * M, x + (size_t)n * K, w, scale, K, M);
}

void cpu_head_dense(struct kctx *k, float *y, const float *x, const float *w, uint32_t N,
                    uint32_t K, uint32_t L)
{
    (void)k;
    /* Outer loop over the matrix: it is read once for all rows. */
    for (uint32_t l = 0; l < L; l++)
        for (uint32_t n = 0; n < N; n++)
            y[(size_t)n * L + l] = simd_pick()->dot(x + (size_t)n * K, w + (size_t)l * K, K);
}

void cpu_head_similarity(struct kctx *k, float *y, const float *x, const uint16_t *rows, uint32_t N,
                         uint32_t R, uint32_t C)
{
    (void)k;
    simd_pick()->similar(y, x, rows, N, R, C);
}
