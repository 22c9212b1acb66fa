/* cpu_loss.h -- what stands above and beside the encoder in training: the cosine head's losses and
 * low-rank adapters, as backend_training.h has them. Products are fp64 sums of fp32 numbers, in an
 * order that threads do not change. Private to kernels/cpu.
 */
#ifndef LEARND_CPU_LOSS_H
#define LEARND_CPU_LOSS_H

#include "kernels/backend_training.h"

/* cpu_loss.c */
void cpu_train_loss(struct kctx *k, double *losses, float *dx, float *dw, float *dbias,
                    const float *x, const float *w, const float *bias, const struct kloss *loss);

/* cpu_lora.c */
void cpu_train_lora(struct kctx *k, float *y, const float *w, const float *a, const float *b,
                    float scale, uint32_t M, uint32_t K, uint32_t r);
void cpu_train_lora_back(struct kctx *k, float *da, float *db, const float *dw, const float *a,
                         const float *b, float scale, uint32_t M, uint32_t K, uint32_t r);

/* x . y, in eight sums that the compiler can keep side by side. */
static inline double cpu_dot(const float *x, const float *y, uint32_t n)
{
    double part[8] = {0}, sum = 0;
    uint32_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (uint32_t j = 0; j < 8; j++)
            part[j] += (double)x[i + j] * y[i + j];
    for (; i < n; i++)
        sum += (double)x[i] * y[i];
    for (uint32_t j = 0; j < 8; j++)
        sum += part[j];
    return sum;
}

/* y(n) += alpha x(n) */
static inline void cpu_axpy(float *y, float alpha, const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] += alpha * x[i];
}

#endif
