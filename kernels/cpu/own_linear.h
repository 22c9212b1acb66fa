/* own_linear.h -- y = x w^T + bias in this project's own loops. Private to kernels/cpu.
 *
 * For machines below AVX-512: there oneDNN has no bf16 at all, and its fp32 adds over K in another
 * order when the number of rows changes (found by tests/ops on DNNL_MAX_CPU_ISA=AVX2). Here every
 * element is one sum over K, first to last.
 */
#ifndef LEARND_OWN_LINEAR_H
#define LEARND_OWN_LINEAR_H

#include "kernels/backend.h"

struct own_mat;

/* w(M,K), rounded to dtype and kept as fp32 in panels. 0, -ENOMEM. */
int own_mat_load(const float *w, uint32_t M, uint32_t K, enum kdtype dtype,
                 struct own_mat **ret_mat);
/* The same in two steps, for weights that change: element (m,k) at m row_step + k column_step. */
int own_mat_open(uint32_t M, uint32_t K, enum kdtype dtype, struct own_mat **ret_mat);
void own_mat_set(struct own_mat *mat, const float *w, uint32_t row_step, uint32_t column_step);
void own_mat_free(struct own_mat *mat);

/* y(N,M), x(N,K) in the dtype of w. bias may be NULL. 0, -ENOMEM. */
int own_linear_run(void *y, const void *x, const struct own_mat *w, const float *bias, uint32_t N,
                   uint32_t threads);
/* dw(M,K) += dy(N,M)^T x(N,K), each element one sum over N, first to last. 0, -ENOMEM. */
int own_linear_dw(float *dw, const void *dy, const void *x, enum kdtype dtype, uint32_t M,
                  uint32_t K, uint32_t N, uint32_t threads);

#endif
