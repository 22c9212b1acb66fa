/* cpu_linear.h -- matrix work of the cpu backend: the home of oneDNN. Private to kernels/cpu. */
#ifndef LEARND_CPU_LINEAR_H
#define LEARND_CPU_LINEAR_H

#include <stdint.h>

#include "kernels/backend.h"

/* Rows of an activation buffer must have room for this many: linear works on the next step of a
 * ladder. */
uint32_t cpu_linear_rows(uint32_t rows);

struct cpu_linear; /* one context's primitives and stream */

int cpu_linear_open(struct cpu_linear **ret_linear);
void cpu_linear_close(struct cpu_linear *linear);

int cpu_mat_load(const float *w, const float *bias, uint32_t M, uint32_t K, enum kdtype dtype,
                 struct kmat **ret_mat);
uint32_t cpu_mat_columns(const struct kmat *mat); /* M */
void cpu_mat_free(struct kmat *mat);

/* y(N,M) = x(N,K) w^T + bias. Both buffers have cpu_linear_rows(N) rows. 0, -ENOMEM, -EIO. */
int cpu_linear_run(struct cpu_linear *linear, void *y, const void *x, const struct kmat *w,
                   uint32_t N, uint32_t threads);

#endif
