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

#endif
