/* cpu_head.h -- the head's forward on the cpu: see the head_* operations of backend.h. Private to
 * kernels/. */
#ifndef LEARND_CPU_HEAD_H
#define LEARND_CPU_HEAD_H

#include "kernels/backend.h"

void cpu_head_features(struct kctx *k, float *y, const float *x, const float *w, float scale,
                       uint32_t N, uint32_t K, uint32_t M);
void cpu_head_dense(struct kctx *k, float *y, const float *x, const float *w, uint32_t N,
                    uint32_t K, uint32_t L);
void cpu_head_similarity(struct kctx *k, float *y, const float *x, const uint16_t *rows, uint32_t N,
                         uint32_t R, uint32_t C);

#endif
