/* plain.h -- what the operations of kernels/backend.h mean: one loop a letter, everything in
 * double. Tests only.
 *
 * Letters and shapes are backend.h's. Inputs are doubles that the device's dtype holds exactly, so
 * that what differs is the device's arithmetic and the rounding of its result, nothing else.
 */
#ifndef LEARND_PLAIN_H
#define LEARND_PLAIN_H

#include <stdbool.h>
#include <stdint.h>

/* y(T,C): word(T,C), position(T,C), segment(T,C) are the rows already looked up. */
void plain_embed(double *y, const double *word, const double *position, const double *segment,
                 const double *gamma, const double *beta, double eps, uint32_t T, uint32_t C);
/* bias(M) may be NULL. */
void plain_linear(double *y, const double *x, const double *w, const double *bias, bool gelu,
                  uint32_t N, uint32_t M, uint32_t K);
void plain_attention(double *y, const double *qkv, const uint32_t *offsets, uint32_t B, uint32_t C,
                     uint32_t H);
void plain_add_layernorm(double *y, const double *x, const double *residual, const double *gamma,
                         const double *beta, double eps, uint32_t N, uint32_t C);
void plain_pool(double *y, const double *x, const uint32_t *offsets, uint32_t B, uint32_t C,
                bool first);
/* w is (K,M). */
void plain_features(double *y, const double *x, const double *w, double scale, uint32_t N,
                    uint32_t K, uint32_t M);

#endif
