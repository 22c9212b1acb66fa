/* cpu_linear_training.h -- matrix work of training on the cpu: the three products of a linear map
 * whose weights change. Private to kernels/cpu.
 */
#ifndef LEARND_CPU_LINEAR_TRAINING_H
#define LEARND_CPU_LINEAR_TRAINING_H

#include <stdint.h>

#include "kernels/backend_training.h"

struct cpu_linear_training; /* one context's primitives and streams */

/* 0, -ENOMEM. */
int cpu_linear_training_open(uint32_t threads_max, struct cpu_linear_training **ret_linear);
void cpu_linear_training_close(struct cpu_linear_training *linear);

int cpu_train_mat_open(uint32_t M, uint32_t K, enum kdtype dtype, struct kmat_train **ret_mat);
void cpu_train_mat_close(struct kmat_train *mat);
/* 0, -EIO. */
int cpu_mat_train_set(struct kmat_train *mat, const float *w, uint32_t threads);

/* y(N,M) = x(N,K) w^T + bias. Buffers have cpu_linear_rows(N) rows. 0, -ENOMEM, -EIO. */
int cpu_linear_train(struct cpu_linear_training *linear, void *y, const void *x,
                     const struct kmat_train *w, const float *bias, uint32_t N, uint32_t threads);
/* dx(N,K) = dy(N,M) w. */
int cpu_linear_dx(struct cpu_linear_training *linear, void *dx, const void *dy,
                  const struct kmat_train *w, uint32_t N, uint32_t threads);
/* dw(M,K) += dy(N,M)^T x(N,K), db(M) += column sums of dy unless NULL. May write zeros into the
 * rows of both from N on. */
int cpu_linear_dw(struct cpu_linear_training *linear, float *dw, float *db, struct kview dy,
                  struct kview x, uint32_t M, uint32_t K, uint32_t N, uint32_t threads);

#endif
