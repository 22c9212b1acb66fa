/* plain_training.h -- what the backward operations of kernels/backend_training.h mean: one loop a
 * letter, everything in double. Tests only.
 *
 * Gradients are written (=), also those of parameters.
 */
#ifndef LEARND_PLAIN_TRAINING_H
#define LEARND_PLAIN_TRAINING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/backend_loss.h"

void plain_linear_back(double *dx, double *dw, double *db, const double *dy, const double *x,
                       const double *w, uint32_t N, uint32_t M, uint32_t K);
/* ds(N,C) of y = layernorm(s) gamma + beta. */
void plain_layernorm_back(double *ds, double *dgamma, double *dbeta, const double *dy,
                          const double *s, const double *gamma, double eps, uint32_t N, uint32_t C);
void plain_gelu(double *y, const double *x, size_t n);
void plain_gelu_back(double *dx, const double *dy, const double *x, size_t n);
void plain_attention_back(double *dqkv, const double *dy, const double *qkv,
                          const uint32_t *offsets, uint32_t B, uint32_t C, uint32_t H);
void plain_pool_back(double *dx, const double *dy, const double *x, const uint32_t *offsets,
                     uint32_t B, uint32_t C, bool first);

/* y(B,3): the losses of kernels/backend_loss.h; w(L,C), bias(L) used for sets only. */
void plain_loss(double *y, const double *x, const double *w, const double *bias,
                const struct kloss *l);
/* Of the sum of weight y0 + share distill y1 + share feature y2. */
void plain_loss_back(double *dx, double *dw, double *dbias, const double *x, const double *w,
                     const double *bias, const struct kloss *l);
/* y(M,K) = w + scale b(M,r) a(r,K). */
void plain_lora(double *y, const double *w, const double *a, const double *b, double scale,
                uint32_t M, uint32_t K, uint32_t r);
void plain_lora_back(double *da, double *db, const double *dy, const double *a, const double *b,
                     double scale, uint32_t M, uint32_t K, uint32_t r);

#endif
